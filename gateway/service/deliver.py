"""Stored pictures -> what an answer gives of them: bytes to be written out, and a URL of ours or the upstream's."""

from collections.abc import AsyncGenerator, AsyncIterator

from gateway.domain.errors import GatewayError, PictureLost, PictureNotFound, PictureStoreUnavailable
from gateway.domain.image import ImageOrder, ImageRef, Picture
from gateway.domain.picture_urls import PictureFile
from gateway.domain.records import record
from gateway.service.generation import Generation
from gateway.service.links import PictureLinks
from gateway.service.picture_ports import PictureGone, PictureStore, PictureStoreDown, StoredPicture

CHUNK = 48 * 1024  # bytes; 3 divides it, so that each piece has a base64 of its own


@record(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A picture that is ready to be handed over; no content when only the upstream's URL is."""

    picture: Picture
    url: str
    content: StoredPicture | None


@record(frozen=True, slots=True, kw_only=True)
class InMemory:
    """A picture that the store could not take or keep."""

    file: PictureFile
    held: bytes

    @property
    def length(self) -> int:
        """The number of bytes."""
        return len(self.held)

    async def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Give the bytes in pieces."""
        until = self.length if end is None else end
        for place in range(start, until, CHUNK):
            yield self.held[place : min(place + CHUNK, until)]


class Deliver:
    """Opens what is to be handed over, before the first byte of an answer goes out."""

    def __init__(self, store: PictureStore, links: PictureLinks) -> None:
        self._store = store
        self._links = links

    async def open(self, order: ImageOrder, picture: Picture, origin: str) -> Delivery:
        """Open a picture in the form that was ordered.

        Raises:
            PictureLost: its bytes cannot be had any more.
        """
        if order.linked:
            return Delivery(picture=picture, url=picture.paid.url, content=None)
        if picture.image is None:
            raise PictureLost("The picture was made and charged for another request, which wanted its URL alone.")
        if picture.unstored:
            held = InMemory(file=PictureFile.of(picture.image, None), held=picture.unstored)
            return Delivery(picture=picture, url=picture.paid.url, content=held)
        content = await self._open(order, picture.image)
        return Delivery(picture=picture, url=self._links.make(content.file, origin), content=content)

    async def link(self, picture: Picture, origin: str) -> str:
        """Make a new URL of a picture as it was made; the upstream's own where it was only passed on.

        Raises:
            PictureLost: its bytes are gone; PictureStoreUnavailable: that cannot be told.
        """
        if picture.image is None:
            return picture.paid.url
        try:
            content = await self._store.open(picture.image)
        except PictureGone as gone:
            raise PictureLost("The picture was made and is not kept any more. Ask for it again.") from gone
        except PictureStoreDown as down:
            raise PictureStoreUnavailable("The store of pictures cannot be read at the moment. Try again.") from down
        return self._links.make(content.file, origin)

    async def linked(self, name: str, expires: str, signature: str) -> tuple[StoredPicture, int]:
        """Open what a URL of ours names, and tell the seconds that the URL has left.

        Raises:
            InvalidPictureUrl, PictureUrlExpired: it does not open anything (any more).
            PictureNotFound: the bytes are gone; PictureStoreUnavailable: that cannot be told.
        """
        file, left = self._links.check(name, expires, signature)
        try:
            return await self._store.find(file), left
        except PictureGone as gone:
            raise PictureNotFound("This picture is not kept any more. Send the generation again.") from gone
        except PictureStoreDown as down:
            raise PictureStoreUnavailable("The store of pictures cannot be read at the moment. Try again.") from down

    async def _open(self, order: ImageOrder, image: ImageRef) -> StoredPicture:
        try:
            return await self._store.open(image, order.rendition, found=True)
        except (PictureGone, PictureStoreDown) as failure:
            raise PictureLost(
                "The picture was made and charged, but the store of pictures does not give its bytes. "
                f"Tell the gateway's operator its name {image.name}.",
            ) from failure


class Handover:
    """The pictures of one generation on their way to the client that waits for it; `origin` is where it reached us."""

    def __init__(self, deliver: Deliver, generation: Generation, origin: str) -> None:
        self._deliver = deliver
        self.generation = generation
        self._origin = origin
        self._lost: list[GatewayError] = []

    async def all(self) -> list[Delivery]:
        """Wait for every picture and open those that can be; raise the worst failure when none can."""
        pictures = await self.generation.all()
        opened = [await self._open(picture) for picture in pictures]
        return self._some([delivery for delivery in opened if delivery])

    async def each(self) -> AsyncGenerator[Delivery]:
        """Open each picture as soon as it is there; raise the worst failure at the end when none could be."""
        given: list[Delivery] = []
        async for picture in self.generation.each():
            delivery = await self._open(picture)
            if delivery:
                given.append(delivery)
                yield delivery
        self._some(given)

    def failures(self) -> list[GatewayError]:
        """Give what became of the pictures that did not come, as far as it is known."""
        return [*self.generation.failures(), *self._lost]

    async def _open(self, picture: Picture) -> Delivery | None:
        try:
            return await self._deliver.open(self.generation.order, picture, self._origin)
        except PictureLost as lost:
            self._lost.append(lost)
            return None

    def _some(self, given: list[Delivery]) -> list[Delivery]:
        if not given:
            raise self._lost[0]
        return given
