"""Installations are lost and restored by the commands of deploy/README.md."""

import asyncio
import json
import os
import shutil
import sqlite3
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import obstore
import pytest
from obstore.store import S3Store

from tests import postgres_servers, servers
from tests.deploy.tools import commands_of, succeed
from tests.redis_servers import DURABLE, redis_alone
from tests.s3_server import s3_server

LIMIT = 3  # images per day of the key
REMEMBERING = {"GLM_GATEWAY_CACHE__SCOPE": "project"}
DELIVERED = 'SELECT COALESCE(SUM(pictures_delivered), 0) AS "sum" FROM usage_events'


def generate(gateway, key, prompt):
    """The status, whether it was remembered, and the path of the picture's URL."""
    status, headers, content = gateway.post({"prompt": prompt, "size": "512x512", "response_format": "url"}, key=key)
    url = json.loads(content)["data"][0]["url"].removeprefix(gateway.url) if status == 200 else None
    return status, headers["x-glm-cache"], url


def as_readme_says(number, env, **places):
    """Run one of the README's pieces of shell; `places` are what stands there in brackets."""
    text = commands_of("Backup and restore")[number]
    for name, place in places.items():
        text = text.replace(f"<{name}>", str(place))
    assert "<" not in text
    folders = (Path(sys.executable).parent, postgres_servers.binaries())
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    return succeed("bash", "-euc", text, env={**env, "PATH": path}, seconds=100)


def start(gateway):
    gateway.process.start()
    servers.wait_until(lambda: servers.answers(f"{gateway.url}/readyz"), 60, what=gateway.url)


def a_limited_key(gateway):
    made = servers.glm_gateway("keys", "create", "--name", "limited", "--images-per-day", str(LIMIT), env=gateway.env)
    return made.stdout.strip()


def pictures_in(database):
    with sqlite3.connect(database) as opened:
        assert opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return opened.execute(DELIVERED).fetchone()[0]


def check_goes_on(gateway, key, url, before):
    """The key, its limit of which two were used, the URL and the rest of the picture are as they were."""
    assert servers.http("GET", gateway.url + url)[2] == before
    assert [generate(gateway, key, f"number {number}")[0] for number in (3, 4)] == [200, 429]


@pytest.mark.parametrize("alive", [True, False], ids=["while it runs", "stopped"])
def test_on_sqlite(tmp_path, simulator, alive):
    with servers.gateway(tmp_path, simulator, **REMEMBERING) as gateway:
        key, data, folder = a_limited_key(gateway), gateway.data_dir, tmp_path / "backup"
        url, _ = [generate(gateway, key, f"number {number}")[2] for number in (1, 2)]
        picture = servers.http("GET", gateway.url + url)[2]
        servers.wait_until(lambda: pictures_in(data / "gateway.db") == 2, what="the ledger")
        if not alive:
            assert gateway.process.stop() == 0
        as_readme_says(0 if alive else 2, gateway.env, folder=folder, data=data)
        if alive:
            assert generate(gateway, key, "lost")[0] == 200
        gateway.process.stop()
        shutil.rmtree(data)
        as_readme_says(1, gateway.env, folder=folder, data=data)
        start(gateway)
        assert pictures_in(data / "gateway.db") == 2
        status, remembered, again = generate(gateway, key, "number 1") if not alive else (200, "HIT", url)
        assert (status, remembered) == (200, "HIT")
        check_goes_on(gateway, key, again, picture)
        compared = servers.glm_gateway("reconcile", env=gateway.env)
        assert compared.returncode == 0, compared.stdout + compared.stderr


def test_a_backup_under_load_has_the_picture_of_every_line(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as gateway:
        stop, folder = threading.Event(), tmp_path / "backup"

        def load(user):
            for number in range(10_000):
                if stop.is_set():
                    return
                assert generate(gateway, None, f"{user}: {number}")[0] == 200

        users = [threading.Thread(target=load, args=(user,)) for user in range(4)]
        for user in users:
            user.start()
        try:
            servers.wait_until(lambda: pictures_in(gateway.data_dir / "gateway.db") > 20, what="a load")
            said = as_readme_says(0, gateway.env, folder=folder)
        finally:
            stop.set()
            for user in users:
                user.join()
        pictures = [path for path in (folder / "store").rglob("*") if path.is_file() and path.name != "probe"]
        assert 20 < pictures_in(folder / "gateway.db") <= len(pictures)
        assert said.startswith(f"{folder} has the database and files: ")
        assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}


def test_a_backup_that_cannot_be_made_says_why(tmp_path):
    env = servers.environment(GLM_GATEWAY_DATA_DIR=str(tmp_path / "data"))
    nothing = servers.glm_gateway("backup", str(tmp_path / "backup"), env=env)
    assert (nothing.returncode, nothing.stderr.count("\n")) == (1, 1)
    assert "nothing was ever made here" in nothing.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gateway.db").touch()
    there = servers.glm_gateway("backup", str(tmp_path), env=env)
    assert (there.returncode, there.stderr.count("\n")) == (2, 1)
    assert "is there already" in there.stderr
    url = {"DATABASE_URL": "postgresql://x@localhost/x", "GLM_GATEWAY_SECRET_KEY": "s" * 32}
    server = servers.glm_gateway("backup", str(tmp_path / "other"), env=env | url)
    assert server.returncode == 1
    assert "pg_dump" in server.stderr
    assert not (tmp_path / "other").exists()


def pictures_on(url):
    async def read():
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(DELIVERED)
        finally:
            await connection.close()

    return asyncio.run(read())


def test_on_postgresql_redis_and_s3(tmp_path, simulator, monkeypatch):
    """The bucket is copied as any tool would; `aws` itself is not at hand."""
    with ExitStack() as stack:
        databases = [stack.enter_context(postgres_servers.postgres_alone(tmp_path / name)) for name in ("one", "two")]
        s3 = stack.enter_context(s3_server(tmp_path))
        bucket = s3.make_bucket("pictures")
        for name, value in s3.env.items():
            monkeypatch.setenv(name, value)
        redis, _ = stack.enter_context(redis_alone(tmp_path / "redis", **DURABLE))
        env = {"DATABASE_URL": databases[0].url, "REDIS_URL": redis, "GLM_GATEWAY_SECRET_KEY": "s" * 32, **s3.env}
        env |= {"GLM_GATEWAY_STORE__URL": f"s3://{bucket}", **REMEMBERING}
        gateway = stack.enter_context(servers.gateway(tmp_path, simulator, **env))
        key = a_limited_key(gateway)
        url, _ = [generate(gateway, key, f"number {number}")[2] for number in (1, 2)]
        picture = servers.http("GET", gateway.url + url)[2]
        servers.wait_until(lambda: pictures_on(databases[0].url) == 2, what="the ledger")
        as_readme_says(3, gateway.env, folder=tmp_path)
        store = S3Store(bucket, client_options={"allow_http": True})
        names = [meta["path"] for listed in obstore.list(store) for meta in listed]
        copies = {name: bytes(obstore.get(store, name).bytes()) for name in names}
        generate(gateway, key, "lost")
        gateway.process.stop()
        databases[0].stop()
        obstore.delete(store, names)
        servers.redis_command(redis, "FLUSHALL")
        gateway.env["DATABASE_URL"] = databases[1].url
        as_readme_says(5, gateway.env, folder=tmp_path)
        for name, content in copies.items():
            obstore.put(store, name, content)
        start(gateway)
        assert pictures_on(databases[1].url) == 2
        check_goes_on(gateway, key, url, picture)
