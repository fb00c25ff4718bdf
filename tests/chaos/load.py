"""Clients that ask whole gateways for pictures over and over, and the account of all of it."""

import asyncio
import logging
import re
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from openai import APIStatusError, AsyncOpenAI

from gateway import settings
from gateway.wiring.administration import open_administration
from tests.servers import wait_until

log = logging.getLogger(__name__)

CALLERS = 16
REFUSED_SECONDS = 0.05  # a client that was refused does not ask again at once


@dataclass
class Call:
    """One request; `answer` is its status, or the code of its error."""

    started: float
    seconds: float = 0.0
    answer: int | str | None = None
    pictures: int = 0
    request_id: str | None = None

    @property
    def ended(self):
        return self.started + self.seconds


class Load:
    """Callers that ask for one picture and for two by turns, each of one of the gateways, until the block ends."""

    def __init__(self, fleet, secret):
        self.fleet = fleet
        self.secret = secret
        self.calls = []

    @asynccontextmanager
    async def running(self):
        """Let the callers ask until the block ends; a caller that fails ends the block."""
        stopping = asyncio.Event()
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(self._client(gateway)) for gateway in self.fleet.gateways]
            callers = await stack.enter_async_context(asyncio.TaskGroup())
            for number in range(CALLERS):
                callers.create_task(self._caller(clients[number % len(clients)], number, stopping))
            yield
            stopping.set()

    def _client(self, gateway):
        return AsyncOpenAI(base_url=gateway.base_url, api_key=self.secret, max_retries=0, timeout=30)

    async def _caller(self, client, turn, stopping):
        while not stopping.is_set():
            turn += 1
            call = Call(time.monotonic())
            await self._ask(client, call, n=1 + turn % 2)
            call.seconds = time.monotonic() - call.started
            self.calls.append(call)
            if call.answer != 200:
                await asyncio.sleep(REFUSED_SECONDS)

    async def _ask(self, client, call, n):
        options = {"size": "512x512", "response_format": "url"}
        try:
            raw = await client.images.with_raw_response.generate(prompt=f"{call.started}", n=n, **options)
        except APIStatusError as refused:
            check_refusal(refused)
            call.answer = refused.code
        else:
            call.answer = raw.status_code
            call.request_id = raw.headers["x-request-id"]
            call.pictures = len(raw.parse().data)

    @property
    def pictures(self):
        """The pictures that were answered."""
        return sum(call.pictures for call in self.calls)

    def begun(self, start, end=float("inf")):
        """Give the calls that began in this time."""
        return [call for call in self.calls if start <= call.started < end]

    def __str__(self):
        return f"{len(self.calls)} calls, {self.pictures} pictures, the slowest answer {self.slowest:.2f} s"

    @property
    def slowest(self):
        return max(call.seconds for call in self.calls)


def check_refusal(refused):
    """Nothing but the limit and the outage may refuse, and each says whether to come back."""
    headers = refused.response.headers
    told = (headers.get("retry-after"), headers.get("x-should-retry"))
    assert (refused.status_code, refused.code, *told) in {
        (429, "insufficient_quota", None, "false"),
        (503, "quota_store_unavailable", "2", None),
    }


def share_granted(calls):
    """Give the share of calls that brought their pictures."""
    assert len(calls) >= 10
    return sum(call.answer == 200 for call in calls) / len(calls)


async def let_pass(load, key_id, limit):
    """Set the limit of the key under way."""
    async with open_administration(settings.load(load.fleet.env), log.warning) as administration:
        await administration.keys.change(key_id, {"images_per_day": limit})


async def exhausted(load, limit):
    """Wait until the limit is reached, also by what is given back late, and refuses every caller again and again."""
    await until(lambda: load.pictures >= limit)
    await until(lambda: {call.answer for call in load.calls[-3 * CALLERS :]} == {"insufficient_quota"})
    assert load.pictures == limit


async def until(condition, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it comes true with the answers of another process
            await asyncio.sleep(0.02)


def check_account(load, key_id, simulator):
    """After all, the answers, Redis, the upstream and the ledger say the same, and nothing is left over."""
    fleet, answered = load.fleet, {call.request_id for call in load.calls if call.answer == 200}
    assert used(fleet.gateways[0], load.secret) == load.pictures
    assert simulator.stats()["images"] == load.pictures
    wait_until(lambda: fleet.charged(key_id) == load.pictures, what="the ledger")
    lines = fleet.lines(key_id)
    assert {line["request_id"] for line in lines if line["pictures_delivered"]} == answered
    others = [line for line in lines if not line["pictures_delivered"]]  # taken from the limits, and then no queue
    assert {(line["status"], line["error_code"]) for line in others} <= {(503, "quota_store_unavailable")}
    assert not any(line["pictures_paid"] or line["price"] for line in others)
    for gateway in fleet.gateways:
        wait_until(lambda at=gateway: list(at.data_dir.glob("spool/*")) == [], what="the spool")
        assert "Traceback" not in gateway.process.output()


def used(gateway, secret):
    """What Redis counts, as a refusal tells."""
    status, _, content = gateway.post({"prompt": "one more"}, key=secret)
    assert status == 429
    return int(re.search(rb"images_per_day .* used (\d+)", content)[1])
