"""A job that stands in line for a place: it waits, is let in, leaves, is refused, and is never sent before."""

import pytest

from gateway.domain import errors
from gateway.domain.flights import Lead
from gateway.domain.quota import Limits
from gateway.domain.usage import Outcome
from gateway.service.turns import Bounds
from tests.builders import a_caller
from tests.fakes import settle
from tests.studio import Studio

pytestmark = pytest.mark.anyio
ONE = a_caller(key_limits=Limits(concurrent=1))


class Line(Studio):
    """A job that runs, and one of two pictures that waits for its place."""

    def __init__(self, **more):
        super().__init__(**more)
        self.shop.upstream.gate.clear()

    async def begin(self):
        self.running = await self.start(caller=ONE)
        self.quotas.found["request-2"] = {"leads": (Lead(index=0), Lead(index=1))}
        self.waiting = await self.start(caller=ONE, n=2)
        await settle()
        assert len(self.shop.upstream.calls) == 1
        return self

    async def outcomes(self):
        self.shop.upstream.gate.set()
        assert await self.jobs.drain(5) == await self.errands.drain(5) == 0
        return {line.event_id: line.outcome for line in self.quotas.events}


async def test_what_waits_is_sent_when_it_has_its_place_and_the_wait_is_in_its_line():
    line = await Line().begin()
    assert line.shop.observer.waiting == 2
    line.shop.clock.seconds += 0.5
    line.flights.turns.set()
    await settle()
    assert len(line.shop.upstream.calls) == 3
    assert line.shop.observer.waiting == 0
    line.shop.upstream.gate.set()
    assert len(await line.waiting.all()) == 2
    assert await line.outcomes() == {"request-1": Outcome.DELIVERED, "request-2": Outcome.DELIVERED}
    assert next(event.queue_ms for event in line.quotas.events if event.event_id == "request-2") >= 500


@pytest.mark.parametrize("why", ["late", "without a place"])
async def test_what_gets_no_place_is_refused_and_given_back(why):
    line = Line(bounds=Bounds(jobs=100, patience=0.05 if why == "late" else 180.0))
    await line.begin()
    line.flights.has_place = False
    if why != "late":
        line.flights.turns.set()
    with pytest.raises(errors.QueueTimedOut, match="Nothing was charged"):
        await line.waiting.all()
    assert await line.outcomes() == {"request-1": Outcome.DELIVERED, "request-2": Outcome.FAILED}
    assert line.quotas.charged == {"request-1": 1, "request-2": 0}
    assert line.crashes == []


async def test_a_client_that_leaves_an_operator_that_cancels_and_a_stop_end_the_wait():
    for end, failure in (
        (lambda line: line.waiting.left(), errors.ClientLeft),
        (lambda line: line.generate.cancel("request-2"), errors.JobCancelled),
        (lambda line: line.turns.close(), errors.ShuttingDown),
    ):
        line = await Line().begin()
        end(line)
        with pytest.raises(failure):
            await line.waiting.all()
        assert (await line.outcomes())["request-2"] is Outcome.FAILED
        assert len(line.shop.upstream.calls) == 1


async def test_nobody_begins_to_wait_while_the_process_stops():
    line = Line()
    line.turns.close()
    running = await line.start(caller=ONE)
    waiting = await line.start(caller=ONE)
    with pytest.raises(errors.ShuttingDown):
        await waiting.all()
    line.shop.upstream.gate.set()
    assert len(await running.all()) == 1
