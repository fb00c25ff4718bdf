"""Work for many items, spread over a time."""

import asyncio

import pytest

from gateway.service.errands import AT_ONCE, spread

pytestmark = pytest.mark.anyio


async def test_a_few_begin_at_a_time_and_all_within_the_time():
    loop = asyncio.get_running_loop()
    start, began = loop.time(), []

    async def work(item):
        began.append(loop.time() - start)
        return -item

    items = range(5 * AT_ONCE)
    assert await spread(0.2, work, items) == [-item for item in items]
    # Not before their time, but for what a timer is early.
    due = [0.2 * (item // AT_ONCE) / 5 for item in items]
    assert all(moment > after - 0.005 for moment, after in zip(began, due, strict=True))
    assert began[-1] < due[-1] + 0.5


async def test_what_hangs_holds_up_no_other():
    items = range(3 * AT_ONCE)
    hanging, ended, others = asyncio.Event(), set(), asyncio.Event()

    async def work(item):
        if item == 0:
            await hanging.wait()
        ended.add(item)
        if len(ended) == len(items) - 1:
            others.set()

    spreading = asyncio.create_task(spread(0.05, work, items))
    await asyncio.wait_for(others.wait(), 5)
    assert ended == set(items[1:])
    hanging.set()
    await spreading


async def test_a_failure_is_told_when_the_others_have_ended():
    ended = set()

    async def work(item):
        if item == 0:
            raise OSError("away")
        ended.add(item)

    with pytest.raises(OSError, match="away"):
        await spread(0.05, work, range(3 * AT_ONCE))
    assert ended == set(range(1, 3 * AT_ONCE))


async def test_nothing_begins_after_it_was_called_off():
    began = set()

    async def work(item):
        began.add(item)

    spreading = asyncio.create_task(spread(1.0, work, range(2 * AT_ONCE)))
    await asyncio.sleep(0.05)
    spreading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await spreading
    await asyncio.sleep(0.6)
    assert began == set(range(AT_ONCE))
