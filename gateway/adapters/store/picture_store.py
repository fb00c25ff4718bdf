"""The picture store port over objects: names that follow from the content, renditions made once and kept beside."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from cachetools import TTLCache

from gateway.adapters.store.objects import Objects
from gateway.adapters.store.pictures import CONVERSIONS_AT_ONCE, ConversionFailed, in_thread, media_of
from gateway.domain.image import ImageRef, Rendition
from gateway.domain.picture_urls import PictureFile
from gateway.service.deliver import InMemory
from gateway.service.picture_ports import Download, PictureGone, PictureStoreDown, StoredPicture
from gateway.service.ports import Observer

MOST_FOUND, FOUND_SECONDS = 4096, 1.0
Result = TypeVar("Result")
_KEY = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}(-[0-9]{1,3}\.(jpg|webp))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPicture:
    """A stored picture that is read as it is written out."""

    objects: Objects
    file: PictureFile
    length: int

    def chunks(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Give the bytes in pieces."""
        return self.objects.pieces(key_of(self.file), start, self.length if end is None else end)


class ObjectPictureStore:
    """The port; `probe` and `sweep` are to be called now and then."""

    def __init__(self, objects: Objects, observer: Observer) -> None:
        self._objects = objects
        self._observer = observer
        self._usable = True
        self._conversions = asyncio.Semaphore(CONVERSIONS_AT_ONCE)
        self._converting: dict[str, asyncio.Task[StoredPicture]] = {}
        self._found: TTLCache[str, bool] = TTLCache(MOST_FOUND, FOUND_SECONDS)

    def usable(self) -> bool:
        """Tell whether the last write went well."""
        return self._usable

    async def put(self, download: Download) -> ImageRef:
        """Keep a picture; the same bytes again are kept anew from now on."""
        image = download.image
        file = PictureFile.of(image, None)
        content = download.path if download.path is not None else await download.content()
        await self._write("put", file, content)
        self._found[file.name] = True
        return image

    async def open(self, image: ImageRef, rendition: Rendition | None = None, *, found: bool = False) -> StoredPicture:
        """Open a picture as it was made, or converted."""
        file = PictureFile.of(image, rendition)
        if found and file.quality is None and file.name in self._found:
            return ObjectPicture(objects=self._objects, file=file, length=image.bytes)
        stored = await self.find(file)
        if file.quality is None and stored.length != image.bytes:
            raise PictureGone(f"{file} has {stored.length} bytes instead of {image.bytes}")
        self._found[file.name] = True
        return stored

    async def find(self, file: PictureFile) -> StoredPicture:
        """Open a file by its name; a rendition that is not there (any more) is made."""
        try:
            size = await self._told("read", self._objects.size(key_of(file)))
        except PictureGone:
            if file.quality is None:
                raise
            return await self._converted_once(file, file.quality)
        return ObjectPicture(objects=self._objects, file=file, length=size)

    async def probe(self) -> None:
        """Find out whether pictures can be kept."""
        try:
            await self._objects.probe()
        except PictureStoreDown as down:
            self._failed("probe", down)
        else:
            self._usable = True

    async def sweep(self, before: datetime) -> None:
        """Delete what was last kept before a moment, and what a crash has left."""
        try:
            await self._objects.tidy()
            await self._objects.sweep(before, is_ours)
        except PictureStoreDown as down:
            self._observer.store_failed("sweep", str(down))

    async def _converted_once(self, file: PictureFile, quality: int) -> StoredPicture:
        """Let all who want a rendition now wait for one conversion, which goes on when one of them leaves."""
        name = str(file)
        if name not in self._converting:
            task = self._converting[name] = asyncio.create_task(self._convert(file, quality))
            task.add_done_callback(lambda done: self._ended(name, done))
        return await asyncio.shield(self._converting[name])

    def _ended(self, name: str, task: asyncio.Task[StoredPicture]) -> None:
        del self._converting[name]
        if not task.cancelled():
            task.exception()  # those who wait get it; if nobody does, nobody needs it

    async def _convert(self, file: PictureFile, quality: int) -> StoredPicture:
        content = await self._rendered(file, quality)
        if isinstance(content, ObjectPicture):
            return content
        try:
            await self._write("put", file, content)
        except PictureStoreDown:
            return InMemory(file=file, held=content)
        return ObjectPicture(objects=self._objects, file=file, length=len(content))

    async def _rendered(self, file: PictureFile, quality: int) -> bytes | ObjectPicture:
        """Convert, or give the picture as it was made; the original is in memory no longer than its turn lasts."""
        async with self._conversions:
            original = await self._original(file.name)
            try:
                return await in_thread(original, file.media, quality)
            except ConversionFailed as failure:
                self._observer.store_failed("convert", f"{file}: {failure}")
                made = PictureFile(name=file.name, media=media_of(original))
                return ObjectPicture(objects=self._objects, file=made, length=len(original))

    async def _original(self, name: str) -> bytes:
        """Read a picture as it was made, and believe it only when it is what its name says."""
        key = key_of(PictureFile(name=name, media="png"))
        size = await self._told("read", self._objects.size(key))
        content = await self._told("read", self._objects.read(key, 0, size))
        if (await asyncio.to_thread(hashlib.sha256, content)).hexdigest() != name:
            raise PictureGone(f"{name} is damaged")
        return content

    async def _write(self, operation: str, file: PictureFile, content: Path | bytes) -> None:
        try:
            await self._objects.put(key_of(file), content, f"image/{file.media}")
        except PictureStoreDown as down:
            self._failed(operation, down)
            raise

    async def _told(self, operation: str, work: Awaitable[Result]) -> Result:
        try:
            return await work
        except PictureStoreDown as down:
            self._observer.store_failed(operation, str(down))
            raise

    def _failed(self, operation: str, down: PictureStoreDown) -> None:
        self._usable = False
        self._observer.store_failed(operation, str(down))


def key_of(file: PictureFile) -> str:
    """Spread files over 256 folders. A picture as made is kept under its digest alone, whatever it calls itself."""
    name = file.name if file.quality is None else str(file)
    return f"{file.name[:2]}/{name}"


def is_ours(key: str) -> bool:
    """Tell our files from others that an operator keeps in the same folder or bucket."""
    return _KEY.fullmatch(key) is not None
