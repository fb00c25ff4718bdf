"""Redis is stopped, and masters of a Cluster are killed, in the middle of a load: grants stay within the limit."""

import asyncio
import logging
import os
import time
from dataclasses import dataclass

import pytest

from gateway.domain.limits import Limit
from gateway.domain.quota import Limits, Refusal
from gateway.service.ports import QuotaUnavailable
from tests import redis_servers
from tests.ports.quota_shop import event, real_shop

pytestmark = pytest.mark.anyio
log = logging.getLogger(__name__)
# More kills than ten take longer than the suite may.
KILLS = int(os.environ.get("GLM_TEST_KILLS", "10"))
CALLERS = 8
PAUSE = 0.02  # seconds between two calls of a caller
STOPPED = 2.0
RESERVE_SECONDS, SETTLE_SECONDS = 0.9, 5.0  # design.md section 6, "Outages"
ROUND = 400  # pictures that a round lets pass
LATE = 0.3  # seconds that two busy cores may add
FAILOVER_SECONDS = 4.0
ANSWER_SECONDS = 5.0


@dataclass
class Call:
    """One call to the store; `answer` is done, refused, or None when there was none within the deadline."""

    kind: str
    started: float
    seconds: float = 0.0
    answer: str | None = None


class Load:
    """Callers that reserve two pictures and settle, over and over, as the service does."""

    def __init__(self, at, quotas, limits, charged):
        self.at = at
        self.quotas = quotas
        self.limits = limits
        self.charged = charged  # by the number of the turn
        self.calls = []
        self.granted = 0
        self.paid = 0
        self.stopping = False
        self.later = set()

    async def run(self, during):
        """Call until something else is over, and everything that was put off is done."""
        callers = [asyncio.create_task(self._caller(number)) for number in range(CALLERS)]
        try:
            return await during
        finally:
            self.stopping = True
            await asyncio.gather(*callers)
            await asyncio.gather(*self.later)

    async def _caller(self, turn):
        await asyncio.sleep(PAUSE * turn / CALLERS)  # in step, all of them might be settling when the server is stopped
        while not self.stopping:
            turn += 1
            await self._generation(self.charged(turn))
            await asyncio.sleep(PAUSE)

    async def _generation(self, charged):
        claim = self.at.claim(2, key=self.limits)
        answer = await self._timed("reserve", self.quotas.reserve(claim))
        if answer is None:
            self._put_off("release", lambda: self.quotas.release(claim))
        elif not isinstance(answer, Refusal):
            self.granted += 1
            self.paid += charged
            line = event(claim.request_id, self.at.project)
            if await self._timed("settle", self.quotas.settle(answer, charged, line)) is None:
                self._put_off("settle", lambda: self.quotas.settle(answer, charged, line))

    def _put_off(self, kind, work):
        """Repeat until it is done, as the spool and the release after an unanswered reserve do."""

        async def repeat():
            while await self._timed(kind, work()) is None:  # noqa: ASYNC110 - nobody tells when the store is back
                await asyncio.sleep(0.1)

        self.later.add(asyncio.create_task(repeat()))

    async def _timed(self, kind, work):
        call = Call(kind, time.monotonic())
        self.calls.append(call)
        try:
            answer = await work
        except QuotaUnavailable:
            return None
        else:
            call.answer = "refused" if isinstance(answer, Refusal) else "done"
            return answer or True
        finally:
            call.seconds = time.monotonic() - call.started

    def reserves(self, start, end):
        return [call for call in self.calls if start <= call.started < end and call.kind == "reserve"]


def slowest(calls):
    return max(call.seconds for call in calls)


def share_answered(calls):
    assert len(calls) > 20
    return sum(call.answer is not None for call in calls) / len(calls)


async def test_a_redis_that_stops_for_two_seconds(tmp_path):
    with redis_servers.redis_alone(tmp_path) as (url, node):
        async with real_shop(url) as at:
            unlimited = Limits(images_per_day=10**6, requests_per_minute=10**6, concurrent=10**6)
            load = Load(at, at.store.replica(deadline=RESERVE_SECONDS), unlimited, lambda turn: turn % 3)
            start, stop, resume, end = await load.run(stopped_for_a_while(node))
            for call in load.calls:
                assert call.seconds < (RESERVE_SECONDS if call.kind == "reserve" else SETTLE_SECONDS) + LATE
            assert share_answered(load.reserves(start, stop - RESERVE_SECONDS)) >= 0.9
            assert share_answered(load.reserves(resume + LATE, end)) >= 0.9
            assert any(call.answer is None for call in load.reserves(stop - LATE, resume))
            assert await at.used(Limit.IMAGES_PER_DAY) == load.paid
            assert await at.used(Limit.CONCURRENT) == 0
            assert await at.store.stream.backlog(at.shard) == load.granted


async def stopped_for_a_while(node):
    """Give the moments at which the load had begun, the server was stopped, went on, and all was over."""
    start = time.monotonic()
    await asyncio.sleep(2)
    node.send(redis_servers.STOP)
    stop = time.monotonic()
    try:
        await asyncio.sleep(STOPPED)
    finally:
        node.send(redis_servers.CONTINUE)
    resume = time.monotonic()
    await asyncio.sleep(2)
    return start, stop, resume, time.monotonic()


@pytest.mark.timeout(60 + 15 * KILLS)
async def test_masters_of_a_cluster_that_are_killed(tmp_path):
    """Every round lets some more pictures pass; the master is killed while they do, and starts again as a replica."""
    with redis_servers.redis_cluster(tmp_path) as cluster:
        async with real_shop(cluster.url) as at:
            quotas = at.store.replica(deadline=FAILOVER_SECONDS, wait_replicas=1)
            load = Load(at, quotas, Limits(images_per_day=0), lambda _: 2)
            failovers = await load.run(killed_again_and_again(load, cluster, at.store.names.of("epoch")))
            unanswered = sum(call.answer is None for call in load.reserves(0, float("inf")))
            log.info("failovers %s s, %d calls, the slowest %.2f s", failovers, len(load.calls), slowest(load.calls))
            log.info("%d reserves unanswered, %d granted without a replica", unanswered, quotas.unconfirmed)
            assert slowest(load.calls) < ANSWER_SECONDS + LATE
            assert share_answered(load.reserves(0, float("inf"))) >= 0.9
            assert await at.used(Limit.IMAGES_PER_DAY) == load.paid <= load.limits.images_per_day


async def killed_again_and_again(load, cluster, key):
    """Give the seconds that each failover took."""
    failovers = []
    for _ in range(KILLS):
        load.limits = Limits(images_per_day=load.paid + ROUND)
        await asyncio.sleep(0.3)
        master = await asyncio.to_thread(cluster.master_of, key)
        master.kill()
        killed = time.monotonic()
        await until(lambda after=killed + 0.05: any(call.answer for call in load.reserves(after, float("inf"))))
        failovers.append(round(time.monotonic() - killed, 2))
        await asyncio.sleep(0.3)  # without a replica
        master.start()
        await asyncio.to_thread(cluster.wait_healthy)
        # Until nothing more fits, and what was reserved without an answer is given back.
        await until(lambda: load.calls[-1].answer == "refused" and all(task.done() for task in load.later))
        assert load.paid == load.limits.images_per_day
    return failovers


async def until(condition):
    while not condition():  # noqa: ASYNC110 - it comes true with the answers of another process
        await asyncio.sleep(0.02)
