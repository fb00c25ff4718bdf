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
SECOND = "2025-11-24,main,glm-image,1,0.100001\n2025-11-24,other,glm-image,1,0.015\n"


def at(day, hour, minute=0, second=0, micro=0):
    return datetime(2025, 11, day, hour, minute, second, micro, tzinfo=UTC)


def paid(name, time, account="main", pictures=1, cost=100_000, **more):
    amounts = {"pictures_requested": pictures, "pictures_paid": pictures, "cost": cost}
    return a_line(name, time=time, upstream_account=account, **amounts, **more)


LINES = [
    paid("first", at(22, 16)),
    paid("last", at(23, 15, 59, 58, 999_000)),
    a_line("unknown", Outcome.UNKNOWN, time=at(23, 5), pictures_requested=2, cost=200_000, cost_uncertain=True),
    a_line("hit", Outcome.HIT, time=at(23, 5)),
    paid("both", at(23, 16), "main,other", 2, 200_001,
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
        data = str(folder / "data")
        yield environment(GLM_GATEWAY_DATA_DIR=data, DATABASE_URL=url, GLM_GATEWAY_SECRET_KEY="a secret")


@pytest.mark.parametrize(
    ("rows", "differences", "uncertain"),
    [
        (FIRST + SECOND, [], [(2, 0)]),
        (FIRST.replace("2,0.20", "4,0.40") + SECOND, [], [(2, 2)]),
        (FIRST.replace("2,0.20", "5,0.50") + SECOND, [("2025-11-23", "main", 5, "0.50", 2, "0.200000")], [(2, 3)]),
        (FIRST.replace("0.20", "0.19") + SECOND, [("2025-11-23", "main", 2, "0.19", 2, "0.200000")], [(2, 0)]),
        (FIRST + SECOND.splitlines(keepends=True)[0], [("2025-11-24", "other", 0, "0", 1, "0.015000")], [(2, 0)]),
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
    assert [tuple(one[name] for name in ("date", "account", *sides)) for one in told["differences"]] == differences
    assert [(one["uncertain_images"], one["billed_images"]) for one in told["uncertain"]] == uncertain


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
