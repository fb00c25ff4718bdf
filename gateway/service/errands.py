"""What is good to have done, and harms nobody when it is not done at once, or at all."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from itertools import starmap
from typing import Any, TypeVar

from gateway.service.ports import QuotaUnavailable

Item = TypeVar("Item")
Result = TypeVar("Result")
AT_ONCE = 4


async def spread(
    seconds: float, work: Callable[[Item], Coroutine[Any, Any, Result]], items: Sequence[Item]
) -> list[Result]:
    """Do work for every item, begun a few at a time over so many seconds; raise the first failure when all has ended.

    What is done for all 64 shards at once holds up a new picture, which asks Redis six times: an eighth of the p99 of
    what the gateway adds to an upstream's time.
    """

    async def begin(position: int, item: Item) -> Result:
        await asyncio.sleep(seconds * (position // AT_ONCE * AT_ONCE) / len(items))
        return await work(item)

    ends = await asyncio.gather(*starmap(begin, enumerate(items)), return_exceptions=True)
    results = [end for end in ends if not isinstance(end, BaseException)]
    for failure in ends:
        if isinstance(failure, BaseException):
            raise failure
    return results


async def quietly(errand: Awaitable[object]) -> None:
    """Do it, unless the store is away: then others learn of it from the job's settlement."""
    with suppress(QuotaUnavailable):
        await errand


async def at_most(seconds: float, errand: asyncio.Future[Any]) -> None:
    """Wait for an errand that goes on whoever waits, and no longer than so; asyncio.wait takes 8 us, this 2."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    late = loop.call_later(seconds, _release, over)
    errand.add_done_callback(partial(_release, over))
    try:
        await over
    finally:
        late.cancel()


def _release(over: asyncio.Future[None], *_: object) -> None:
    if not over.done():
        over.set_result(None)
