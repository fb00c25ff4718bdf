"""What it costs to carry a line from Redis into SQL: `python -m tests.bench.carrying [--rounds N] [--json FILE]`.

CPU of all threads of this process, beside what SQLite alone takes for the same rows in the same round: in bulk (one
shard, 5000 lines), and in a trickle (two lines in each of the 64 shards at a time). Medians over the rounds.
"""

import argparse
import asyncio
import gc
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime
from itertools import count as counting
from operator import attrgetter
from pathlib import Path

import uvloop

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.names import Names, encode_event
from gateway.adapters.redis.scripts import Scripts
from gateway.adapters.sql.engine import migrate, open_engine
from gateway.adapters.sql.ledger import SqlLedger
from gateway.cli.serve import GARBAGE
from gateway.domain.quota import SHARDS
from gateway.domain.usage import UsageEvent
from gateway.service.backlog import Backlog
from gateway.service.metering import Metering
from tests import postgres_servers, redis_servers
from tests.bench.drain import BATCH, a_line
from tests.fakes import FakeObserver

LINES, TICKS = 5000, 10
ADD = "for _, line in ipairs(ARGV) do redis.call('XADD', KEYS[1], '*', 'event', line) end"
_numbers = counting()
_values_of = attrgetter(*(field.name for field in fields(UsageEvent)))


class Carrier:
    """The way of lines out of one Redis into one database."""

    def __init__(self, url, engine):
        self.client = RedisClient(url)
        observer = FakeObserver()
        stream = RedisUsageStream(Scripts(self.client), "bench")
        self._metering = Metering(stream, SqlLedger(engine), Backlog(10**6, observer), observer, list)

    async def bulk(self):
        """Give the CPU of a line, in microseconds, when many wait in one shard."""
        for _ in range(0, LINES, BATCH):
            await self._add(7, BATCH)
        return await self._carried(LINES)

    async def trickle(self):
        """Give the CPU of a line, in microseconds, when two wait in each shard every time."""
        return statistics.median([await self._tick() for _ in range(TICKS)])

    async def _tick(self):
        await asyncio.gather(*(self._add(shard, 2) for shard in range(SHARDS)))
        return await self._carried(2 * SHARDS)

    async def _add(self, shard, count):
        now = datetime.now(UTC)
        lines = [encode_event(_next_line(now), now) for _ in range(count)]
        await self.client.call("EVAL", ADD, 1, Names(shard).of("events"), *lines)

    async def _carried(self, lines):
        began = time.process_time()
        assert await self._metering.drain() == lines
        return (time.process_time() - began) / lines * 1e6


def bare(file):
    """Give the CPU of a row, in microseconds, that SQLite alone takes, as many at a time as the gateway writes."""
    rows = [_row(_next_line(datetime.now(UTC))) for _ in range(LINES)]
    statement = f"INSERT INTO usage_events VALUES ({','.join('?' * len(rows[0]))})"  # noqa: S608 - no word of others
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA synchronous=NORMAL")
    began = time.process_time()
    for at in range(0, LINES, BATCH):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, rows[at : at + BATCH])
        connection.execute("COMMIT")
    spent = time.process_time() - began
    connection.close()
    return spent / LINES * 1e6


def _row(line):
    return tuple(str(value)[:26] if isinstance(value, str | datetime) else value for value in _values_of(line))


def _next_line(now):
    return a_line(f"req_{next(_numbers):020}", now)


@asynccontextmanager
async def _carrier(redis_url, database_url):
    engine = open_engine(database_url)
    await migrate(engine)
    carrier = Carrier(redis_url, engine)
    yield carrier
    await carrier.client.aclose()
    await engine.dispose()


async def measure(folder, redis_url, postgres_url, rounds):
    """Give the figures of all rounds by their names."""
    figures, file = defaultdict(list), folder / "gateway.db"
    urls = {"SQLite": f"sqlite:///{file}", "PostgreSQL": postgres_url}
    for name, url in urls.items():
        async with _carrier(redis_url, url) as carrier:
            await carrier.trickle()  # connections, scripts and statements are there from then on
            gc.freeze()  # as the gateway does
            for _ in range(rounds):
                if name == "SQLite":
                    figures["bare"].append(bare(file))
                figures[f"{name}, bulk"].append(await carrier.bulk())
                figures[f"{name}, trickle"].append(await carrier.trickle())
    return {name: statistics.median(taken) for name, taken in figures.items()}


def main():
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    asked = parser.parse_args()
    gc.set_threshold(GARBAGE, 20, 50)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        redis_url, _ = stack.enter_context(redis_servers.redis_alone(Path(folder) / "redis"))
        postgres_url = stack.enter_context(postgres_servers.postgres_server(Path(folder) / "postgres"))
        figures = uvloop.run(measure(Path(folder), redis_url, postgres_url, asked.rounds))
    for name, microseconds in figures.items():
        print(f"{name:<22}{microseconds:8.1f} us of CPU a line {microseconds / figures['bare']:7.1f} x bare")
    if asked.json:
        asked.json.write_text(json.dumps(figures), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
