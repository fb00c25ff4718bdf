"""glm-gateway usage: what operators and their programs read of the ledger."""

import asyncio
import csv
import io
import json
import os
import secrets
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from gateway.adapters.sql.engine import migrate, open_engine
from gateway.adapters.sql.ledger import SqlLedger
from gateway.cli import main
from gateway.domain.reports import Group
from gateway.domain.usage import Outcome
from tests import postgres_servers, servers
from tests.builders import a_line
from tests.servers import environment, wait_until

NOW = datetime.now(UTC)
AMOUNTS = ["requests", "images_delivered", "images_paid", "images_uncertain"]
MONEY = ["cost", "cost_currency", "price", "currency"]


def command(env, *words):
    """Run a command inside this process: a process for each takes a second to start."""
    done = CliRunner().invoke(main, words, env={**dict.fromkeys(os.environ), **env})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def usage(env, *words):
    done = command(env, "usage", *words)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def as_json(env, *words):
    return json.loads(usage(env, "--format", "json", *words))


@pytest.fixture(params=["sqlite", "postgresql"])
def env(request, tmp_path):
    """An installation whose ledger has lines of two days, of two keys."""
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/gateway.db"
        if request.param == "postgresql":
            url = stack.enter_context(postgres_servers.postgres_server(tmp_path))
        env = environment(GLM_GATEWAY_DATA_DIR=str(tmp_path / "data"), DATABASE_URL=url)
        env["GLM_GATEWAY_SECRET_KEY"] = "a secret"
        made = command(env, "keys", "create", "--name", "n8n, the robot", "--json")
        asyncio.run(write(url, json.loads(made.stdout)["id"]))
        yield env


async def write(url, key_id):
    engine = open_engine(url)
    await migrate(engine)
    paid = {"pictures_delivered": 2, "pictures_paid": 2, "pictures_requested": 2, "cost": 120_000, "price": 200_000}
    lines = [
        a_line("a", key_id=key_id, time=NOW - timedelta(minutes=1), **paid),
        a_line("b", key_id=key_id, time=NOW - timedelta(minutes=2), **paid),
        a_line("c", Outcome.ABANDONED, key_id=key_id, time=NOW - timedelta(days=2), pictures_requested=3, cost=180_000),
        a_line("d", Outcome.UNKNOWN, key_id="gone", project_id="proj_gone", time=NOW - timedelta(days=2), cost=1),
        a_line("old", key_id=key_id, time=NOW - timedelta(days=8), **paid),
    ]
    await SqlLedger(engine).write(lines)
    await engine.dispose()


def test_a_week_is_summed_by_project_key_and_model_in_every_format(env):
    [mine, gone] = as_json(env)
    names = ["project", "project_id", "key", "key_id", "model"]
    assert list(mine) == [*names, *AMOUNTS, *MONEY]
    assert [mine[name] for name in ("project", "project_id", "key", "model")] == [
        *("default", "proj_default", "n8n, the robot", "glm-image")
    ]
    assert [mine[name] for name in AMOUNTS] == [3, 4, 4, 3]
    assert [mine[name] for name in MONEY] == ["0.42", "CNY", "0.40", "CNY"]
    assert [gone[name] for name in ("project", "key")] == ["proj_gone", "gone"]
    assert [gone[name] for name in (*AMOUNTS, "cost")] == [1, 0, 0, 1, "0.000001"]
    read = list(csv.DictReader(io.StringIO(usage(env, "--format", "csv"))))
    assert read == [{name: str(value) for name, value in row.items()} for row in (mine, gone)]
    heading, first, second = usage(env).splitlines()
    assert heading.split("  ")[0] == "project"
    assert "images uncertain" in heading
    assert first.split()[-4:] == ["0.42", "CNY", "0.40", "CNY"]
    assert second.startswith("proj_gone")


def test_groups_and_the_time_are_chosen(env):
    rows = as_json(env, "--since", "3d", "--group-by", "outcome,day")
    earlier = (NOW - timedelta(days=2)).strftime("%Y-%m-%d")
    certain = [row for row in rows if row["outcome"] == "delivered"]
    assert [(row["outcome"], row["day"]) for row in rows if row not in certain] == [
        ("abandoned", earlier),
        ("unknown", earlier),
    ]
    assert sum(row["requests"] for row in certain) == 2
    assert [row["requests"] for row in as_json(env, "--since", "90m", "--group-by", "project")] == [2]
    assert sum(row["requests"] for row in as_json(env, "--since", "2020-01-01")) == 5
    assert as_json(env, "--since", "1s") == []
    assert len(usage(env, "--since", "1s").splitlines()) == 1


def test_every_group_is_told_in_every_format(env):
    words = ["--since", "9d", "--group-by", ",".join(Group)]
    rows = as_json(env, *words)
    groups = ["project", "project_id", "key", "key_id", *list(Group)[2:]]
    assert [list(row) for row in rows] == [[*groups, *AMOUNTS, *MONEY]] * 5
    began = (NOW - timedelta(days=8)).strftime("%Y-%m-%dT%H:%MZ")
    [old] = [row for row in rows if row["day"] == began[:10]]
    assert [old[name] for name in ("day", "hour", "minute")] == [
        began[:10],
        f"{began[:13]}:00:00Z",
        f"{began[:16]}:00Z",
    ]
    assert [old[name] for name in ("size", "source", "outcome", "user")] == ["", "image.generation", "delivered", ""]
    read = list(csv.DictReader(io.StringIO(usage(env, *words, "--format", "csv"))))
    assert read == [{name: str(value) for name, value in row.items()} for row in rows]
    assert len(usage(env, *words).splitlines()) == len(rows) + 1


def test_what_was_used_outlives_the_key(env):
    said = usage(env, "--format", "csv")
    assert command(env, "keys", "revoke", as_json(env)[0]["key_id"]).exit_code == 0
    assert usage(env, "--format", "csv") == said


@pytest.mark.parametrize(
    ("words", "said"),
    [(("--since", "yesterday"), "no time like 7d"), (("--group-by", "team"), "use some of project, key, model")],
)
def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path, words, said):
    done = command(environment(GLM_GATEWAY_DATA_DIR=str(tmp_path)), "usage", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert said in line


def test_what_a_gateway_made_is_in_its_usage(gateway):
    name = secrets.token_hex(8)
    made = servers.glm_gateway("keys", "create", "--name", name, env=gateway.env)
    assert made.returncode == 0, made.stderr
    assert gateway.post({"prompt": name, "n": 2, "user": name}, key=made.stdout.strip())[0] == 200

    def rows():
        found = as_json(gateway.env, "--since", "1h", "--group-by", "key,user,outcome")
        return [row for row in found if row["key"] == name and row["user"]]

    wait_until(rows, what="the line")
    [row] = rows()
    assert [row[name] for name in ("outcome", *AMOUNTS, "price", "currency")] == [
        *("delivered", 1, 2, 2, 0, "0.20", "CNY")
    ]


def test_a_gateway_sums_up_what_is_over_and_keeps_sums_of_what_is_old(tmp_path, simulator):
    """What the command says stays the same, and the lines of more than 400 days ago are gone."""
    with postgres_servers.postgres_server(tmp_path) as url:
        env = {"DATABASE_URL": url, "GLM_GATEWAY_SECRET_KEY": "a secret"}
        words = ("--since", "2020-01-01", "--group-by", "hour,outcome,user")

        async def prepare():
            old = [a_line(f"old {n}", time=NOW - timedelta(days=401, hours=n), price=100_000) for n in range(3)]
            new = [a_line(f"new {n}", time=NOW - timedelta(hours=3 * n + 2), price=100_000) for n in range(3)]
            engine = open_engine(url)
            await migrate(engine)
            await SqlLedger(engine).write(old + new)
            await engine.dispose()

        async def counted():
            engine = open_engine(url)
            async with engine.connect() as connection:
                numbers = [
                    await connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))  # noqa: S608 - our own words
                    for table in ("usage_events", "usage_archive", "usage_stale WHERE period = 'hour'")
                ]
            await engine.dispose()
            return numbers

        asyncio.run(prepare())
        with servers.gateway(tmp_path, simulator, **env) as gateway:
            before = as_json(gateway.env, *words)
            wait_until(lambda: asyncio.run(counted()) == [3, 3, 0], seconds=60, what="roll-ups and the archive")
            assert as_json(gateway.env, *words) == before
            assert len(before) == 6
