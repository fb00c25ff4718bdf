"""What the use cases need from where pictures come from and from where their bytes live."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from gateway.domain.image import ImageRef, Rendition
from gateway.domain.picture_urls import PictureFile


class PictureSource(Protocol):
    """Where the upstream leaves the bytes of what it made."""

    def fetch(self, url: str) -> AbstractAsyncContextManager["Download"]:
        """Download a picture; its bytes stay for the length of the block.

        Raises:
            FetchFailed: the bytes could not be had this time.
        """


class Download(Protocol):
    """A downloaded picture: in a file, or in memory (no `path`) where the disk refused it."""

    @property
    def image(self) -> ImageRef: ...

    @property
    def path(self) -> Path | None: ...

    async def content(self) -> bytes:
        """Give all bytes."""


class FetchFailed(Exception):
    """A download that gave no picture; `final` when another try cannot succeed."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class StoredPicture(Protocol):
    """A file that is there, and its length in bytes."""

    @property
    def file(self) -> PictureFile: ...

    @property
    def length(self) -> int: ...

    def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Give the bytes from `start` to before `end` in pieces, of a length that 3 divides but for the last.

        Raises:
            PictureGone, PictureStoreDown: the rest cannot be had any more.
        """


class PictureStore(Protocol):
    """Where the bytes of pictures live, by the SHA-256 of their content."""

    def usable(self) -> bool:
        """Tell from what was seen last, without asking, whether pictures can be kept."""

    async def put(self, download: Download) -> ImageRef:
        """Keep a picture from now on for the store's retention; PictureStoreDown when it cannot be kept."""

    async def open(self, image: ImageRef, rendition: Rendition | None = None, *, found: bool = False) -> StoredPicture:
        """Open a picture, converted when a rendition is asked for; what cannot be converted is given as it was made.

        `found`: it was put or opened within the last second for the same answer, and need not be looked for again.

        Raises:
            PictureGone: the bytes are not there, or not all of them.
            PictureStoreDown: it cannot be told.
        """

    async def find(self, file: PictureFile) -> StoredPicture:
        """Open what a URL names; raises as `open` does."""


class PictureGone(Exception):
    """The store does not have these bytes (any more)."""


class PictureStoreDown(Exception):
    """The store cannot be reached, read or written."""
