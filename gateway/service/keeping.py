"""Paid pictures -> the store: downloaded at once, later when the CDN is slow, and found again when remembered."""

from collections.abc import Awaitable, Callable, Iterable

from gateway.domain.errors import ImageDownloadFailed, PictureStoreUnavailable
from gateway.domain.flights import Receipt
from gateway.domain.image import ImageOrder, ImageRef, Picture
from gateway.service.picture_ports import (
    Download,
    FetchFailed,
    PictureGone,
    PictureSource,
    PictureStore,
    PictureStoreDown,
)
from gateway.service.ports import Clock, Observer

# Seconds between tries: the CDN may answer 404 for seconds after a picture was made (glm-image-api.md section 6).
FETCH_WAITS = (1.0, 2.0, 4.0)
# Then its client is told, and it is tried for a day: no URL is known to live longer (section 6).
LATE_WAITS = (15.0, 30.0, 60.0, 120.0, 300.0, *[600.0] * 143)

Put = Callable[[Download], Awaitable[tuple[ImageRef, bytes]]]


class Keeping:
    """The way of a paid picture's bytes."""

    def __init__(self, source: PictureSource, store: PictureStore, clock: Clock, observer: Observer) -> None:
        self._source = source
        self._store = store
        self._clock = clock
        self._observer = observer

    def obstacle(self, order: ImageOrder) -> PictureStoreUnavailable | None:
        """Give what keeps the pictures of an order from being kept, before money is spent on them."""
        if order.linked or self._store.usable():
            return None
        return PictureStoreUnavailable(
            "The store of pictures cannot be used at the moment. Nothing was charged; try again a little later.",
        )

    async def keep(self, receipt: Receipt) -> Picture:
        """Download a paid picture into the store, unless its URL is all that is wanted.

        What the store does not take is in memory, for the client that waits.

        Raises:
            ImageDownloadFailed: not in the seconds that a client can be let wait.
        """
        return _linked(receipt) if receipt.linked else await self._fetch(receipt, FETCH_WAITS, self._put_or_hold)

    async def keep_orphaned(self, receipt: Receipt) -> Picture:
        """Do the same for a picture that no client waits for here: what the store does not take is not held.

        Raises:
            ImageDownloadFailed: not in the seconds that a client elsewhere can be let wait.
        """
        return _linked(receipt) if receipt.linked else await self._fetch(receipt, FETCH_WAITS, self._put)

    async def keep_late(self, receipt: Receipt) -> Picture | ImageDownloadFailed:
        """Go on trying to store a picture that nobody waits for any more."""
        await self._clock.sleep(LATE_WAITS[0])
        try:
            return await self._fetch(receipt, LATE_WAITS, self._put)
        except ImageDownloadFailed as failure:
            return failure

    async def held(self, order: ImageOrder, picture: Picture) -> Picture | None:
        """Give a picture that was made for another request, if its bytes can still be had.

        Raises:
            PictureStoreUnavailable: that cannot be told.
        """
        if order.linked or picture.unstored:
            return picture
        if picture.image is None:
            return await self._fetched(picture)
        try:
            await self._store.open(picture.image)
        except PictureGone:
            return None
        except PictureStoreDown as down:
            raise PictureStoreUnavailable("The store of pictures cannot be read at the moment. Try again.") from down
        return picture

    async def _fetched(self, picture: Picture) -> Picture | None:
        """Fetch what was made for a client that wanted the upstream's URL alone."""
        try:
            receipt = Receipt(paid=picture.paid, account=picture.account)
            return await self._fetch(receipt, (), self._put_or_hold)
        except ImageDownloadFailed:
            return None

    async def _fetch(self, receipt: Receipt, waits: Iterable[float], put: Put) -> Picture:
        paid, final = receipt.paid, False
        for wait in (*waits, None):
            try:
                async with self._source.fetch(paid.url) as download:
                    image, unstored = await put(download)
                    return Picture(paid=paid, account=receipt.account, image=image, unstored=unstored)
            except (FetchFailed, PictureStoreDown) as failed:
                final = isinstance(failed, FetchFailed) and failed.final
                given_up = wait is None or final
                self._observer.fetch_failed(paid, str(failed), given_up=given_up)
                if wait is None or final:
                    break
            await self._clock.sleep(wait)
        raise ImageDownloadFailed(
            "The picture was made and charged upstream, but it could not be downloaded and stored. "
            f"Give the gateway's operator the upstream's request id {paid.request_id or '(none)'}.",
            final=final,
            account=receipt.account,
        )

    async def _put(self, download: Download) -> tuple[ImageRef, bytes]:
        return await self._store.put(download), b""

    async def _put_or_hold(self, download: Download) -> tuple[ImageRef, bytes]:
        """Store a picture; the client that paid for it gets it from memory when that fails."""
        try:
            return await self._put(download)
        except PictureStoreDown:
            return download.image, await download.content()


def _linked(receipt: Receipt) -> Picture:
    return Picture(paid=receipt.paid, account=receipt.account, image=None)
