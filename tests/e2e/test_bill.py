"""glm-gateway reconcile --bill: an upstream's bill against the ledger, on both databases."""

import asyncio
import json
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest

from gateway.adapters.sql.engine import migrate, open_engine
from gateway.adapters.sql.ledger import SqlLedger
from gateway.domain.usage import Outcome
from tests import postgres_servers, servers
from tests.builders import a_line
from tests.servers import environment

HEADING = "date,account,model,images,amount\n"
FIRST = "2025-11-23,main,glm-image,2,0.20\n"  # 0:00 to 24:00 in China
MAIN = "2025-11-24,main,glm-image,1,0.100001\n"
SECOND = f"{MAIN}2025-11-24,other,glm-image,1,0.015\n"


def at(day, hour, minute=0, second=0, micro=0):
    return datetime(2025, 11, day, hour, minute, second, micro, tzinfo=UTC)


def paid(name, time, account="main", pictures=1, cost=100_000, **more):
    amounts = {"pictures_requested": pictures, "pictures_paid": pictures, "cost": cost}
    return a_line(name, time=time, upstream_account=account, **amounts, **more)


ACCOUNTS = """
[[upstreams]]
name = "main"
api_key = "id.secret"

[[upstreams]]
name = "other"
api_key = "other.secret"
price = "0.015"
currency = "USD"
"""
LINES = [
    paid("first", at(22, 16)),
    paid("last", at(23, 15, 59, 58, 999_000)),
    a_line("unknown", Outcome.UNKNOWN, time=at(23, 5), pictures_requested=2, cost=200_000, cost_uncertain=True),
    a_line("hit", Outcome.HIT, time=at(23, 5)),
    paid("both", at(23, 16), "main,other", 2, 200_001, cost_uncertain=True,
         account_costs=json.dumps([("main", 1, 100_001, "CNY"), ("other", 1, 15_000, "USD")])),
]  # fmt: skip


async def write(url):
    engine = open_engine(url)
    await migrate(engine)
    await SqlLedger(engine).write(LINES)
    await engine.dispose()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def env(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        url = f"sqlite:///{folder}/gateway.db"
        if request.param == "postgresql":
            url = stack.enter_context(postgres_servers.postgres_server(folder))
        asyncio.run(write(url))
        (folder / "gateway.toml").write_text(ACCOUNTS)
        paths = {"GLM_GATEWAY_DATA_DIR": str(folder / "data"), "GLM_GATEWAY_CONFIG": str(folder / "gateway.toml")}
        yield environment(**paths, DATABASE_URL=url, GLM_GATEWAY_SECRET_KEY="a secret")


@pytest.mark.parametrize(
    ("rows", "differences", "uncertain"),
    [
        (FIRST + SECOND, [], [(2, 0)]),
        (FIRST.replace("2,0.20", "4,0.40") + SECOND, [], [(2, 2)]),
        (FIRST.replace("2,0.2", "5,0.5") + SECOND, [("2025-11-23", "main", "CNY", 5, "0.50", 2, "0.200000")], [(2, 3)]),
        (FIRST.replace("0.20", "0.19") + SECOND, [("2025-11-23", "main", "CNY", 2, "0.19", 2, "0.200000")], [(2, 0)]),
        (FIRST + MAIN, [("2025-11-24", "other", "USD", 0, "0", 1, "0.015000")], [(2, 0)]),
    ],
    ids=["equal", "within what is uncertain", "above it", "a wrong amount", "a missing row"],
)
def test_a_bill_is_compared_by_days_of_china_account_and_model(env, tmp_path, rows, differences, uncertain):
    bill = tmp_path / "bill.csv"
    bill.write_text(HEADING + rows, "utf-8-sig")
    done = servers.glm_gateway("reconcile", "--bill", str(bill), "--format", "json", env=env)
    assert done.returncode == bool(differences), done.stderr
    told = json.loads(done.stdout)["bill"]
    sides = [f"{side}_{what}" for side in ("bill", "ledger") for what in ("images", "amount")]
    named = ("date", "account", "currency", *sides)
    assert [tuple(one[name] for name in named) for one in told["differences"]] == differences
    assert [(one["uncertain_images"], one["billed_images"]) for one in told["uncertain"]] == uncertain


def test_unlike_money_is_said_to_be_unlike(env, tmp_path):
    """The bill of an account that takes dollars, in yuan."""
    bill = tmp_path / "bill.csv"
    rows = (FIRST + SECOND).splitlines()
    bill.write_text("\n".join([f"{HEADING.strip()},currency", *(f"{row},CNY" for row in rows)]))
    done = servers.glm_gateway("reconcile", "--bill", str(bill), "--format", "json", env=env)
    assert done.returncode == 1, done.stderr
    named = ("account", "currency", "bill_amount", "ledger_amount", "billed_in")
    told = [tuple(one[name] for name in named) for one in json.loads(done.stdout)["bill"]["differences"]]
    assert told == [("other", "CNY", "0.015", "0.000", []), ("other", "USD", "0", "0.015000", ["CNY"])]
    done = servers.glm_gateway("reconcile", "--bill", str(bill), env=env)
    assert done.returncode == 1
    assert "2025-11-24 other glm-image: the ledger has costs in USD, the bill is in CNY. They are not" in done.stdout
    assert done.stdout.endswith("Bill: 2 differences.\n")


def test_people_read_it_in_tables(env, tmp_path):
    bill = tmp_path / "bill.csv"
    bill.write_text(HEADING + FIRST.replace("main,glm-image,2", "stranger,glm-image,3"))
    done = servers.glm_gateway("reconcile", "--bill", str(bill), env=env)
    assert done.returncode == 1
    assert "Redis counts what the ledger says" in done.stdout
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("2025")] == [
        *("glm-image", "main", "stranger")
    ]
    assert done.stdout.endswith("Bill: 2 differences.\n")
