"""A job runs to its end; the stop of the gateway waits for it."""

import asyncio
import gc
import weakref

import pytest

from gateway.domain.errors import AccountUnusable
from gateway.service.jobs import Jobs
from tests.fakes import settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def crashes():
    return []


@pytest.fixture
def jobs(crashes):
    return Jobs(crashes.append)


async def wait_and_give(event, end):
    await event.wait()
    if isinstance(end, BaseException):
        raise end
    return end


async def test_a_job_gives_its_result(jobs):
    event = asyncio.Event()
    task = jobs.start(wait_and_give(event, "done"))
    event.set()
    assert await task == "done"


async def test_drain_has_nothing_to_wait_for(jobs):
    assert await jobs.drain(0) == 0


async def test_drain_waits_for_what_runs(jobs):
    event = asyncio.Event()
    tasks = [jobs.start(wait_and_give(event, number)) for number in range(3)]
    drained = asyncio.create_task(jobs.drain(30))
    await settle()
    assert not drained.done()
    event.set()
    assert await drained == 0
    assert [task.result() for task in tasks] == [0, 1, 2]


async def test_drain_cancels_what_takes_too_long_and_counts_it(jobs, crashes):
    soon, never, cleaned = asyncio.Event(), asyncio.Event(), []

    async def slow():
        try:
            await never.wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append("slow")

    in_time = jobs.start(wait_and_give(soon, "in time"))
    late = [jobs.start(slow()), jobs.start(slow())]
    soon.set()
    assert await jobs.drain(0.05) == 2
    assert in_time.result() == "in time"
    assert all(task.cancelled() for task in late)
    assert cleaned == ["slow", "slow"]
    assert crashes == []


async def test_drain_waits_for_what_starts_meanwhile(jobs):
    """A picture is settled by another task than the one that makes it, and taken over by a third."""
    events = [asyncio.Event(), asyncio.Event()]

    async def first():
        await events[0].wait()
        jobs.start(wait_and_give(events[1], "second"))

    jobs.start(first())
    drained = asyncio.create_task(jobs.drain(30))
    await settle()
    events[0].set()
    await settle()
    assert not drained.done()
    events[1].set()
    assert await drained == 0


async def test_drain_ends_in_time_though_ever_more_starts(jobs):
    async def endless():
        await asyncio.sleep(0)
        jobs.start(endless())

    jobs.start(endless())
    assert await asyncio.wait_for(jobs.drain(0.05), 30) == 1


async def test_drain_waits_for_failures_too(jobs):
    event = asyncio.Event()
    jobs.start(wait_and_give(event, AccountUnusable("no balance")))
    drained = asyncio.create_task(jobs.drain(30))
    event.set()
    assert await drained == 0


@pytest.mark.parametrize(
    ("failure", "told"),
    [(ValueError("a defect"), True), (KeyError("x"), True), (AccountUnusable("no balance"), False)],
)
async def test_only_a_defect_is_told(jobs, crashes, failure, told):
    event = asyncio.Event()
    event.set()
    task = jobs.start(wait_and_give(event, failure))
    with pytest.raises(type(failure)):
        await task
    await settle()
    assert crashes == ([failure] if told else [])


async def test_a_cancelled_job_is_no_defect(jobs, crashes):
    loop, troubles = asyncio.get_running_loop(), []
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, trouble: troubles.append(trouble))
    task = jobs.start(wait_and_give(asyncio.Event(), None))
    await settle()
    task.cancel()
    await settle()
    loop.set_exception_handler(handler)
    assert crashes == troubles == []


async def test_a_job_lives_though_nobody_holds_it(jobs):
    done = []

    async def work():
        event = asyncio.Event()  # only this frame, and a weak reference, know it: nothing but Jobs holds the task
        events.append(weakref.ref(event))
        await event.wait()
        done.append("done")

    events = []
    jobs.start(work())
    await settle()
    gc.collect()
    events[0]().set()
    await settle()
    assert done == ["done"]


async def test_a_finished_job_is_forgotten(jobs):
    event = asyncio.Event()
    event.set()
    finished = weakref.ref(jobs.start(wait_and_give(event, "done")))
    await settle()
    gc.collect()
    assert finished() is None
