"""Which account makes a picture, when, and what is tried again."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Protocol

from gateway.domain.errors import GatewayError, QueueTimedOut, ShuttingDown, UpstreamUnreachable
from gateway.domain.flights import Receipt
from gateway.domain.image import ImageOrder, ImagePlan, Picture
from gateway.domain.upstream import RETRY_WAITS, Account, CallFailure, Fault, outward
from gateway.service.keeping import Keeping
from gateway.service.ports import CallFailed, Clock, Observer, Upstream


def shutting_down() -> ShuttingDown:
    """Say that nothing new is taken."""
    return ShuttingDown("The gateway is shutting down. Nothing was sent and nothing was charged; try again.")


class Slots:
    """The calls that the accounts let be in flight, handed out first come, first served, within this process."""

    def __init__(self, accounts: Sequence[Account], *, max_wait: float, max_length: int) -> None:
        turns = range(max(account.concurrency for account in accounts))
        self._free = deque(account for turn in turns for account in accounts if turn < account.concurrency)
        self._waiting: deque[asyncio.Future[Account]] = deque()
        self._max_wait = max_wait
        self._max_length = max_length
        self._closed = False

    def close(self) -> None:
        """Hand out nothing more, and release all who wait: what was not sent is not sent any more."""
        self._closed = True
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(shutting_down())
        self._waiting.clear()

    @asynccontextmanager
    async def one(self, observer: Observer) -> AsyncGenerator[Account]:
        """Hold one slot.

        Raises:
            QueueTimedOut: too many wait already, or none came free in time.
        """
        if self._closed:
            raise shutting_down()
        account = self._free.popleft() if self._free else await self._wait(observer)
        try:
            yield account
        finally:
            self._give(account)

    def _give(self, account: Account) -> None:
        """Hand a slot straight to who has waited longest, so that no newcomer can take it in between."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(account)
                return
        self._free.append(account)

    async def _wait(self, observer: Observer) -> Account:
        if len(self._waiting) >= self._max_length:
            raise QueueTimedOut("Too many pictures are waiting for the upstream. Nothing was charged; try again later.")
        waiter: asyncio.Future[Account] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        observer.queued(1)
        try:
            async with asyncio.timeout(self._max_wait):
                return await waiter
        except TimeoutError:
            self._withdraw(waiter)
            raise QueueTimedOut(
                f"No upstream slot came free within {self._max_wait:g} seconds. Nothing was charged; try again later.",
            ) from None
        except asyncio.CancelledError:
            self._withdraw(waiter)
            raise
        finally:
            observer.queued(-1)

    def _withdraw(self, waiter: asyncio.Future[Account]) -> None:
        """Leave the queue; a slot that was handed over at this very moment goes to the next."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            self._give(waiter.result())


class Progress(Protocol):
    """Who is told how far a picture is."""

    def waited(self, seconds: float) -> None:
        """The wait for a slot is over, with one or without."""

    def sent(self) -> None:
        """The upstream call begins: from now on the picture may be paid."""

    async def submitted(self, account: str, task_id: str) -> None:
        """The picture is ordered, and the account of this name is asked for it."""

    async def paid(self, receipt: Receipt) -> None:
        """The picture is paid, and not downloaded yet."""


class Dispatch:
    """Makes one picture of a plan: a slot, the paid call, then the download into the store outside the slot."""

    def __init__(self, upstream: Upstream, keeping: Keeping, slots: Slots, clock: Clock, observer: Observer) -> None:
        self._upstream = upstream
        self._keeping = keeping
        self._slots = slots
        self._clock = clock
        self._observer = observer

    async def make(self, order: ImageOrder, progress: Progress) -> Picture:
        """Make, pay, download and store one picture.

        Raises:
            GatewayError: what became of it, in words for the client.
        """
        receipt = await self._pay(order, progress)
        await progress.paid(receipt)
        picture = await self._keeping.keep(receipt, linked=order.linked)
        self._observer.picture_delivered(order.plan)
        return picture

    async def _pay(self, order: ImageOrder, progress: Progress) -> Receipt:
        """Call until a picture is paid; a fault is retried only while it is certain that nothing was made."""
        tries = 0
        while True:
            try:
                return await self._call(order, progress)
            except CallFailed as failed:
                waits = RETRY_WAITS.get(failed.failure.fault, ())
                error: GatewayError = outward(failed.failure)
            except UpstreamUnreachable as unreachable:
                waits = RETRY_WAITS[Fault.INTERNAL]
                error = unreachable
            if tries >= len(waits):
                raise error
            await self._clock.sleep(waits[tries])
            tries += 1

    async def _call(self, order: ImageOrder, progress: Progress) -> Receipt:
        plan = order.plan
        async with self._slot(progress) as account:
            if obstacle := self._keeping.obstacle(order):  # it may have come while the picture waited for its slot
                raise obstacle
            progress.sent()
            started = self._clock.monotonic()
            try:
                paid = await self._upstream.make(account, plan, partial(progress.submitted, account.name))
            except CallFailed as failed:
                self._tell(account, plan, failed.failure)
                raise
            except UpstreamUnreachable as unreachable:
                self._observer.call_failed(account, plan, Fault.INTERNAL, str(unreachable.__cause__))
                raise
            self._observer.picture_paid(account, plan, self._clock.monotonic() - started)
            return Receipt(paid=paid, account=account.name)

    @asynccontextmanager
    async def _slot(self, progress: Progress) -> AsyncGenerator[Account]:
        """Hold a slot, and tell how long it was waited for, also when none came free."""
        asked = self._clock.monotonic()
        async with AsyncExitStack() as stack:
            try:
                account = await stack.enter_async_context(self._slots.one(self._observer))
            finally:
                progress.waited(self._clock.monotonic() - asked)
            yield account

    def _tell(self, account: Account, plan: ImagePlan, failure: CallFailure) -> None:
        detail = f"code {failure.code or '-'}, status {failure.status}: {failure.detail}"
        self._observer.call_failed(account, plan, failure.fault, detail)
