"""Databases with a ledger, lines of every kind and questions, for tests that read and write SQL."""

from contextlib import asynccontextmanager
from datetime import timedelta

from gateway.adapters.sql.engine import migrate, open_engine
from gateway.adapters.sql.tables import metadata
from gateway.domain.reports import Group
from gateway.domain.usage import Outcome
from tests.builders import NOW, a_line


@asynccontextmanager
async def empty_ledger(url):
    """A database of the newest schema, in which the ledger and its sums are empty."""
    engine = open_engine(url)
    try:
        await migrate(engine)
        async with engine.begin() as connection:
            for table in metadata.tables.values():
                if table.name.startswith("usage_"):
                    await connection.execute(table.delete())
        yield engine
    finally:
        await engine.dispose()


def in_order(rows):
    return sorted(rows, key=repr)


def a_drawn_line(number, chance):
    """A line of any kind, within four days."""
    requested = chance.randint(1, 4)
    paid = chance.randint(0, requested)
    return a_line(
        f"job-{number}{chance.choice(['', '', '~1'])}",
        chance.choice(list(Outcome)),
        time=NOW + timedelta(microseconds=chance.randrange(4 * 86_400_000_000)),
        project_id=chance.choice(["proj_a", "proj_b"]),
        key_id=chance.choice(["one", "two", "three"]),
        upstream_model=chance.choice(["glm-image", "cogview-4"]),
        size=chance.choice(["1280x1280", "1024x1024", ""]),
        end_user_hash=chance.choice(["", "somebody"]),
        pictures_requested=requested,
        pictures_paid=paid,
        pictures_delivered=chance.randint(0, paid),
        cost=chance.randrange(10**9),
        cost_currency=chance.choice(["CNY", "USD"]),
        price=chance.randrange(10**9),
        currency=chance.choice(["CNY", "CNY", "USD"]),
    )


QUESTIONS = [
    {},
    *({"by": (group,)} for group in Group),
    {"by": (Group.OUTCOME, Group.DAY, Group.PROJECT, Group.KEY, Group.MODEL)},
    {"by": (Group.HOUR, Group.DAY), "only": {Group.PROJECT: ["proj_a"], Group.KEY: ["one", "two"]}},
    {"by": (Group.SIZE,), "only": {Group.MODEL: ["glm-image"], Group.SIZE: ["", "1024x1024"]}},
    {"only": {Group.KEY: []}},
    {"by": (Group.DAY, Group.MODEL), "costs": False},
    {"by": (Group.DAY, Group.KEY), "costs": False, "prices": False},
    {"by": (Group.USER, Group.SOURCE), "start": NOW + timedelta(hours=30), "end": NOW + timedelta(hours=40)},
]
