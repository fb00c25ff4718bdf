"""SQL is away for a minute under load: served until too much waits for the ledger, then refused; nothing is lost."""

import asyncio
import logging
import signal
import time
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from anyio import to_thread
from openai import APIStatusError, AsyncOpenAI

from tests import postgres_servers, redis_servers, servers
from tests.chaos.account import busy, check_counters, check_lines, lines_of
from tests.fleet import fleet_on

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
log = logging.getLogger(__name__)
AWAY = 60.0
CALLERS = 8
LATENCY = 0.3
DRAIN = 1.0  # seconds: until what is answered is in the ledger, at the most
BOUND = 100
# What begins between two looks at the backlog, twice a second, and until the first settlements of these.
OVERSHOOT = CALLERS * 6
WARM = 100  # answers after which the process has what it needs
GROWTH = 50 * 2**20
ANSWER_SECONDS = 20.0  # who asks first after a key was forgotten waits for SQL for 5 s, and 2 to hang up
RECOVERY = 60.0


@dataclass
class Stand:
    """One gateway with servers of its own, its callers, and what they were answered: (began, answer), in order.

    An answer is the id of a request that got its picture, or the status and code of its refusal.
    """

    fleet: object
    upstream: object
    database: object
    key_id: str
    secret: str
    answers: list = field(default_factory=list)
    slowest: float = 0.0

    @property
    def served(self):
        return [answer for _, answer in self.answers if answer.startswith("req_")]

    @property
    def memory(self):
        """The resident memory of the gateway, bytes."""
        status = Path(f"/proc/{self.fleet.gateways[0].process.popen.pid}/status").read_text("utf-8")
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    @asynccontextmanager
    async def load(self):
        """Let callers ask for a picture, each of a prompt of its own, over and over while the block runs."""
        stopping = asyncio.Event()
        options = {"base_url": self.fleet.gateways[0].base_url, "api_key": self.secret, "max_retries": 0}
        async with AsyncOpenAI(**options) as client, asyncio.TaskGroup() as callers:
            for number in range(CALLERS):
                callers.create_task(self._caller(client, number, stopping))
            yield
            stopping.set()

    async def _caller(self, client, number, stopping):
        while not stopping.is_set():
            began = time.monotonic()
            options = {"size": "512x512", "response_format": "url"}
            try:
                raw = await client.images.with_raw_response.generate(prompt=f"{number} {began}", **options)
            except APIStatusError as refused:
                self.answers.append((began, f"{refused.status_code} {refused.code}"))
                await asyncio.sleep(0.2)
            else:
                self.answers.append((began, raw.headers["x-request-id"]))
            self.slowest = max(self.slowest, time.monotonic() - began)


@asynccontextmanager
async def crashed(postgres):
    """SQL is not there."""
    await to_thread.run_sync(postgres.stop, signal.SIGQUIT)
    try:
        yield
    finally:
        await to_thread.run_sync(postgres.start)


@asynccontextmanager
async def standing_still(postgres):
    """SQL takes connections and never answers."""
    with postgres.standing_still():
        yield


def open_stand(stack, folder, **settings):
    folder.mkdir()
    database = stack.enter_context(postgres_servers.postgres_alone(folder))
    upstream = stack.enter_context(servers.simulator(folder, latency=LATENCY))
    url, node = stack.enter_context(redis_servers.redis_alone(folder / "redis"))
    running = fleet_on(url, node, folder, upstream, 1, DATABASE_URL=database.url, **settings)
    fleet = stack.enter_context(running)
    return Stand(fleet, upstream, database, *fleet.key())


async def test_sql_is_away_for_a_minute(tmp_path):
    """In both ways at once, since a minute is long: gone with a small bound, standing still with the usual one."""
    with ExitStack() as stack:
        bounded = open_stand(stack, tmp_path / "bounded", GLM_GATEWAY_LEDGER__MAX_BACKLOG=str(BOUND))
        usual = open_stand(stack, tmp_path / "usual")
        async with asyncio.TaskGroup() as both:
            both.create_task(passed(bounded, crashed, refused_from_the_bound_on))
            both.create_task(passed(usual, standing_still, served_all_the_time))


async def passed(stand, away, seen):
    """Let callers ask before, during and after the time without SQL; `seen` looks on from its start to its end."""
    async with stand.load():
        await when(lambda: len(stand.served) >= WARM)
        memory = stand.memory
        async with away(stand.database):
            start = time.monotonic()
            await seen(stand, start, start + AWAY)
            grown = stand.memory - memory
        back = time.monotonic()
        await when(lambda: any(answer.startswith("req_") for began, answer in stand.answers if began > back))
        again = time.monotonic() - back
    served = len(stand.served)
    log.info("%d served, again after %.1f s, %.1f MB more, slowest %.1f s", served, again, grown / 2**20, stand.slowest)
    assert grown < GROWTH
    assert stand.slowest < ANSWER_SECONDS
    await when(lambda: busy(stand.fleet) == [])
    await check_account(stand)


async def refused_from_the_bound_on(stand, start, end):
    """Nothing is sent upstream any more once it says so."""
    before = len(stand.served)
    lately = sum(start - DRAIN < began < start for began, _ in stand.answers)  # their lines may still wait as well
    await when(lambda: {answer for _, answer in stand.answers[-3 * CALLERS :]} == {"503 ledger_behind"})
    await when(lambda: stand.upstream.stats()["in_flight"] == 0)
    full, images = time.monotonic(), stand.upstream.stats()["images"]
    log.info("refused after %d more and %.1f s", len(stand.served) - before, full - start)
    assert BOUND - lately <= len(stand.served) - before <= BOUND + OVERSHOOT
    await asyncio.sleep(end - full)
    assert {answer for began, answer in stand.answers if full < began} == {"503 ledger_behind"}
    assert stand.upstream.stats()["images"] == images


async def served_all_the_time(stand, start, end):
    """The first answer takes no longer than the last, and nobody is refused."""
    await asyncio.sleep(end - start)
    assert all(answer.startswith("req_") for _, answer in stand.answers)
    for second in range(0, int(AWAY), 10):
        assert any(start + second < began < start + second + 10 for began, _ in stand.answers)


async def check_account(stand):
    """Every picture made was answered, is in the ledger and is charged, once."""
    lines = await lines_of(stand.database.url, stand.key_id)
    assert sorted(line.event_id for line in lines) == sorted(stand.served)
    assert check_lines(lines, stand.upstream.images(), set(stand.served)) == {"delivered": len(stand.served)}
    check_counters(stand.fleet, stand.key_id, lines)
    [gateway] = stand.fleet.gateways
    assert "Traceback" not in gateway.process.output()


async def when(condition):
    await to_thread.run_sync(lambda: servers.wait_until(condition, RECOVERY, what="recovery"))
