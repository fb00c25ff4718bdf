"""Which account makes a picture, when, and what is tried again."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.domain.errors import (
    GatewayError,
    ImageDownloadFailed,
    PictureStoreUnavailable,
    QueueTimedOut,
    ShuttingDown,
    UpstreamUnreachable,
)
from gateway.domain.image import ImagePlan, ImageRef, PaidPicture, Picture
from gateway.domain.upstream import RETRY_WAITS, Account, CallFailure, Fault, outward
from gateway.service.picture_ports import Download, FetchFailed, PictureSource, PictureStore, PictureStoreDown
from gateway.service.ports import CallFailed, Clock, Observer, Upstream

# The CDN may answer 404 for seconds after a picture was made (glm-image-api.md section 6).
FETCH_WAITS = (1.0, 2.0, 4.0)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Where pictures come from, and where they are kept."""

    source: PictureSource
    store: PictureStore


class Dispatch:
    """Makes one picture of a plan: a slot, the paid call, then the download into the store outside the slot."""

    def __init__(self, upstream: Upstream, pictures: Pictures, slots: Slots, clock: Clock, observer: Observer) -> None:
        self._upstream = upstream
        self._source = pictures.source
        self._store = pictures.store
        self._slots = slots
        self._clock = clock
        self._observer = observer

    def require_store(self, *, linked: bool = False) -> None:
        """Refuse while pictures cannot be kept, unless they are only `linked`; PictureStoreUnavailable."""
        if not linked and not self._store.usable():
            raise PictureStoreUnavailable(
                "The store of pictures cannot be used at the moment. Nothing was charged; try again a little later.",
            )

    async def make(self, plan: ImagePlan, *, linked: bool = False) -> Picture:
        """Make, pay, download and store one picture; `linked`: make and pay it, since its URL is all that is wanted.

        Raises:
            GatewayError: what became of it, in words for the client.
        """
        account, paid = await self._pay(plan, linked=linked)
        image, unstored = (None, b"") if linked else await self._keep(paid)
        self._observer.picture_delivered(plan)
        return Picture(paid=paid, account=account.name, image=image, unstored=unstored)

    async def _pay(self, plan: ImagePlan, *, linked: bool) -> tuple[Account, PaidPicture]:
        """Call until a picture is paid; a fault is retried only while it is certain that nothing was made."""
        tries = 0
        while True:
            try:
                return await self._call(plan, linked=linked)
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

    async def _call(self, plan: ImagePlan, *, linked: bool) -> tuple[Account, PaidPicture]:
        async with self._slots.one(self._observer) as account:
            self.require_store(linked=linked)  # it may have failed while the picture waited for its slot
            started = self._clock.monotonic()
            try:
                paid = await self._upstream.make(account, plan)
            except CallFailed as failed:
                self._tell(account, plan, failed.failure)
                raise
            except UpstreamUnreachable as unreachable:
                self._observer.call_failed(account, plan, Fault.INTERNAL, str(unreachable.__cause__))
                raise
            self._observer.picture_paid(account, plan, self._clock.monotonic() - started)
            return account, paid

    def _tell(self, account: Account, plan: ImagePlan, failure: CallFailure) -> None:
        detail = f"code {failure.code or '-'}, status {failure.status}: {failure.detail}"
        self._observer.call_failed(account, plan, failure.fault, detail)

    async def _keep(self, paid: PaidPicture) -> tuple[ImageRef, bytes]:
        """Download what is paid into the store, waiting out the CDN's first seconds."""
        for wait in (*FETCH_WAITS, None):
            try:
                async with self._source.fetch(paid.url) as download:
                    return await self._put(download)
            except FetchFailed as failed:
                given_up = wait is None or failed.final
                self._observer.fetch_failed(paid, str(failed), given_up=given_up)
                if wait is None or failed.final:
                    break
            await self._clock.sleep(wait)
        raise ImageDownloadFailed(
            "The picture was made and charged upstream, but it could not be downloaded. "
            f"Give the gateway's operator the upstream's request id {paid.request_id or '(none)'}.",
        )

    async def _put(self, download: Download) -> tuple[ImageRef, bytes]:
        """Store a picture; the client that paid for it gets it from memory when that fails."""
        try:
            return await self._store.put(download), b""
        except PictureStoreDown:
            return download.image, await download.content()
