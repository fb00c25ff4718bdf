"""`glm-gateway doctor`: each part has its line, says what to do, and holds up no other."""

import asyncio
import json
import sqlite3
import time

import asyncpg
import pytest

from tests import postgres_servers, servers
from tests.redis_servers import DURABLE, redis_alone, redis_cluster
from tests.servers import UPSTREAM_KEY, environment, glm_gateway


def settings(tmp_path, upstream=None, **env):
    base_url = upstream.base_url if upstream else "http://127.0.0.1:1/api/paas/v4"
    own = {
        "GLM_GATEWAY_DATA_DIR": str(tmp_path / "data"),
        "ZHIPUAI_API_KEY": UPSTREAM_KEY,
        "ZHIPUAI_BASE_URL": base_url,
        "GLM_GATEWAY_QUEUE__MAX_JOBS": "100",
    }
    return environment(**own | env)


def examined(env):
    """The exit code, and of each part its verdicts, what was said and the advice."""
    done = glm_gateway("doctor", "--format", "json", env=env)
    assert UPSTREAM_KEY not in done.stdout + done.stderr
    parts = {}
    for line in json.loads(done.stdout):
        assert bool(line["advice"]) == (line["verdict"] != "ok"), line
        parts.setdefault(line["part"], []).append((line["verdict"], line["said"] + " " + line["advice"]))
    return done.returncode, parts


def verdicts(parts):
    return {part: {verdict for verdict, _ in lines} for part, lines in parts.items()}


def test_before_the_first_start_all_is_well_and_nothing_is_made(tmp_path, simulator):
    code, parts = examined(settings(tmp_path, simulator))
    assert verdicts(parts) == {
        part: {"ok"}
        for part in (
            *("settings", "data directory", "spool", "open files", "redis", "database", "store"),
            "upstream zhipuai-1",
        )
    }
    assert code == 0
    assert not (tmp_path / "data").exists()
    assert simulator.stats()["images"] == 0


def test_beside_a_running_gateway_all_is_well(gateway, simulator):
    code, parts = examined(gateway.env | {"GLM_GATEWAY_QUEUE__MAX_JOBS": "100"})
    assert (code, {line for lines in verdicts(parts).values() for line in lines}) == (0, {"ok"}), parts
    for part in ("redis scripts", "redis topology", "redis clock", "database schema", "secret"):
        assert part in parts
    assert simulator.stats()["images"] == 0
    names = {path.name for path in gateway.data_dir.rglob("*") if "doctor" in path.name}
    assert names == set()


def test_a_table_for_people(tmp_path, simulator):
    done = glm_gateway("doctor", env=settings(tmp_path, simulator, GLM_GATEWAY_QUEUE__MAX_JOBS="1000000000"))
    assert done.returncode == 0
    assert "warning  open files" in done.stdout
    assert "-> Raise the limit (ulimit -n 1000000258" in done.stdout


def test_what_redis_may_lose_is_a_warning(tmp_path, simulator):
    with redis_alone(tmp_path / "redis", maxmemory_policy="allkeys-lru") as (url, _):
        code, parts = examined(settings(tmp_path, simulator, REDIS_URL=url, GLM_GATEWAY_REDIS__WAIT_REPLICAS="1"))
    assert code == 0
    log, policy = parts["redis counts"]
    assert log[0] == policy[0] == "warning"
    assert "Set appendonly yes." in log[1]
    assert "Set noeviction." in policy[1]
    [(verdict, said)] = parts["redis topology"]
    assert verdict == "warning"
    assert "redis.wait_replicas" in said


def test_a_user_who_may_run_no_scripts_is_wrong(tmp_path, simulator):
    with redis_alone(tmp_path / "redis", **DURABLE) as (url, node):
        node.ask("ACL", "SETUSER", "gateway", "on", ">geheim", "~*", "&*", "+@all", "-@scripting")
        env = settings(tmp_path, simulator, REDIS_URL=url.replace("redis://", "redis://gateway:geheim@"))
        code, parts = examined(env)
        [(verdict, said)] = parts["redis scripts"]
        assert (code, verdict) == (1, "wrong")
        assert "ACL SETUSER" in said
        assert "geheim" not in str(parts)


def test_a_full_redis_is_wrong(tmp_path, simulator):
    with redis_alone(tmp_path / "redis", **DURABLE) as (url, node):
        node.ask("CONFIG", "SET", "maxmemory", "1")
        code, parts = examined(settings(tmp_path, simulator, REDIS_URL=url))
    assert (code, parts["redis scripts"][0][0]) == (1, "wrong")


def test_a_cluster_is_examined_too(tmp_path, simulator):
    with redis_cluster(tmp_path / "redis") as cluster:
        code, parts = examined(settings(tmp_path, simulator, REDIS_URL=cluster.url))
    assert code == 0, parts
    assert "Cluster, each master with a replica" in parts["redis topology"][0][1]
    assert verdicts(parts)["redis clock"] == {"ok"}


def test_parts_that_are_down_are_said_each_on_its_own_and_in_time(tmp_path, simulator):
    with (
        redis_alone(tmp_path / "redis") as (url, node),
        postgres_servers.postgres_alone(tmp_path) as database,
        database.standing_still(),
    ):
        node.kill()
        env = {
            "REDIS_URL": url,
            "DATABASE_URL": database.url,
            "GLM_GATEWAY_SECRET_KEY": "x" * 32,
            "GLM_GATEWAY_STORE__URL": "s3://nowhere",
            "AWS_ENDPOINT": f"http://127.0.0.1:{servers.free_port()}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
        }
        began = time.monotonic()
        code, parts = examined(settings(tmp_path, **env))
        assert time.monotonic() - began < 55
    assert code == 1
    for part in ("redis", "database", "store", "upstream zhipuai-1"):
        assert verdicts(parts)[part] == {"wrong"}, parts
    for part in ("settings", "data directory", "spool"):
        assert verdicts(parts)[part] == {"ok"}, parts


def test_settings_that_cannot_be_read_are_wrong(tmp_path):
    code, parts = examined(settings(tmp_path, GLM_GATEWAY_QUEUE__MAX_JOBS="0"))
    assert (code, verdicts(parts)) == (1, {"settings": {"wrong"}})
    assert "queue.max_jobs" in str(parts)


def test_a_refused_upstream_key_is_wrong(tmp_path, simulator):
    code, parts = examined(settings(tmp_path, simulator, ZHIPUAI_API_KEY=f"{UPSTREAM_KEY},no-key-of-glm"))
    assert code == 1
    assert verdicts(parts)["upstream zhipuai-1"] == {"ok"}
    assert verdicts(parts)["upstream zhipuai-2"] == {"wrong"}


@pytest.fixture
def installed(tmp_path, simulator):
    """The settings of an installation that has been used, and is not running."""
    env = settings(tmp_path, simulator)
    assert glm_gateway("keys", "create", "--name", "x", env=env).returncode == 0
    return env


def test_a_schema_of_another_release(installed, tmp_path):
    with sqlite3.connect(tmp_path / "data" / "gateway.db") as database:
        [known] = database.execute("SELECT version_num FROM alembic_version").fetchone()
        database.execute("UPDATE alembic_version SET version_num = '0001'")
    code, parts = examined(installed)
    assert (code, verdicts(parts)["database schema"]) == (0, {"warning"})
    assert f"this release's is {known}" in parts["database schema"][0][1]
    with sqlite3.connect(tmp_path / "data" / "gateway.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    code, parts = examined(installed)
    assert (code, verdicts(parts)["database schema"]) == (0, {"warning"})
    assert "serves this one" in parts["database schema"][0][1]
    with sqlite3.connect(tmp_path / "data" / "gateway.db") as database:
        database.execute("UPDATE installation SET value = '9998' WHERE name = 'schema_serves'")
    code, parts = examined(installed)
    assert (code, verdicts(parts)["database schema"]) == (1, {"wrong"})


async def make_read_only(url):
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    finally:
        await connection.close()


def test_a_database_that_takes_nothing_is_wrong(tmp_path, simulator):
    """As a replica, or with a user who may only read."""
    with postgres_servers.postgres_alone(tmp_path) as database:
        env = {"DATABASE_URL": database.url, "GLM_GATEWAY_SECRET_KEY": "x" * 32}
        assert glm_gateway("migrate", env=settings(tmp_path, **env)).returncode == 0
        asyncio.run(make_read_only(database.url))
        code, parts = examined(settings(tmp_path, simulator, **env))
    assert (code, verdicts(parts)["database"]) == (1, {"wrong"}), parts
    assert "read-only transaction" in parts["database"][0][1]


def test_another_secret_is_wrong(installed):
    code, parts = examined(installed | {"GLM_GATEWAY_SECRET_KEY": "y" * 32})
    assert (code, verdicts(parts)["secret"]) == (1, {"wrong"})


def test_what_others_may_read_and_what_waits_on_disk_are_warnings(installed, tmp_path):
    data = tmp_path / "data"
    (data / "secret.key").chmod(0o644)
    (data / "spool").mkdir(exist_ok=True)
    (data / "spool" / "one.json").write_text("{}")
    (data / "spool" / "two.damaged").write_text("{")
    code, parts = examined(installed)
    assert (code, verdicts(parts)["data directory"], verdicts(parts)["spool"]) == (0, {"warning"}, {"warning"})
    assert "secret.key" in parts["data directory"][0][1]
    assert len(parts["spool"]) == 2


def test_a_spool_that_takes_nothing_is_wrong(installed, tmp_path):
    (tmp_path / "data" / "spool").symlink_to("/proc/self")  # where nobody makes a file
    code, parts = examined(installed)
    assert (code, verdicts(parts)["spool"]) == (1, {"wrong"})
