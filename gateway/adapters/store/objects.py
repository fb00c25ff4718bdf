"""Bytes under keys, on disk or in an S3 bucket: the one place that knows obstore."""

import asyncio
import os
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from gateway.adapters.store import files
from gateway.service.picture_ports import PictureGone, PictureStoreDown

WRITES_AT_ONCE = 4  # each holds a part of its picture in memory
DISK_PIECE, S3_PIECE = 240 * 1024, 768 * 1024  # bytes of one read; 3 divides both
S3_PART = 5 * 1024 * 1024  # bytes of one write; S3 takes no smaller ones
PROBE = "probe"
STAGING = "staging"
ABANDONED_SECONDS = 3600.0  # no write takes so long
LONGEST_REASON = 300


class Objects(ABC):
    """What disk and S3 have in common. `piece` is the number of bytes that one read should ask for.

    Everything raises PictureStoreDown when the store cannot be reached, read or written.
    """

    piece: int

    def __init__(self, store: LocalStore | S3Store) -> None:
        self._store = store
        self._writes = asyncio.Semaphore(WRITES_AT_ONCE)

    @abstractmethod
    async def put(self, key: str, content: Path | bytes, content_type: str) -> None:
        """Write an object whole or not at all; one that is there is replaced, and young again."""

    @abstractmethod
    async def probe(self) -> None:
        """Write something small, and see whether there is room for more."""

    @abstractmethod
    async def tidy(self) -> None:
        """Remove what a crash has left half-written."""

    async def size(self, key: str) -> int:
        """Give an object's length; PictureGone when there is none."""
        with translated():
            return (await obstore.head_async(self._store, key))["size"]

    async def read(self, key: str, start: int, end: int) -> bytes:
        """Give the bytes from `start` to before `end`; PictureGone when the object is not there."""
        with translated():
            return bytes(await obstore.get_range_async(self._store, key, start=start, end=end))

    async def pieces(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Read an object piece by piece, so that a slow client holds neither memory nor a connection to the store."""
        for place in range(start, end, self.piece):
            yield await self.read(key, place, min(place + self.piece, end))

    async def delete(self, key: str) -> None:
        """Remove an object; PictureGone when there is none."""
        with translated():
            await obstore.delete_async(self._store, key)

    async def sweep(self, before: datetime, ours: Callable[[str], bool]) -> None:
        """Delete what is ours and was last written before a moment; what is renewed meanwhile stays."""
        with translated(), suppress(FileNotFoundError):  # of what vanishes while it is listed; the next sweep goes on
            async for listed in obstore.list(self._store):
                for meta in listed:
                    if meta["last_modified"] < before and ours(meta["path"]):
                        await self._delete(meta["path"], before)

    async def _delete(self, key: str, before: datetime) -> None:
        with suppress(FileNotFoundError):  # another replica was first
            if (await obstore.head_async(self._store, key))["last_modified"] < before:
                await obstore.delete_async(self._store, key)


class Disk(Objects):
    """Objects as files of a folder. Nothing has its final name before it is whole and safe from a power cut.

    `room` is the free space in bytes below which the disk counts as full.
    """

    piece = DISK_PIECE

    def __init__(self, folder: Path, room: int) -> None:
        with translated(gone=PictureStoreDown):
            folder.mkdir(parents=True, exist_ok=True)
            super().__init__(LocalStore(folder))
        self.folder = folder
        self._room = room
        self._reader = files.Reader(self.piece)
        self._looks: list[tuple[str, asyncio.Future[int]]] = []
        self._looking: set[asyncio.Task[None]] = set()

    async def size(self, key: str) -> int:
        """Give an object's length; what is asked for in one turn of the loop is looked at in one turn of a thread."""
        size: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._looks.append((key, size))
        if len(self._looks) == 1:
            look = asyncio.create_task(self._look())
            self._looking.add(look)
            look.add_done_callback(self._looking.discard)
        with translated():
            return await size

    async def _look(self) -> None:
        looks, self._looks = self._looks, []
        found = await asyncio.to_thread(files.sizes, self.folder, [key for key, _ in looks])
        for (_, size), there in zip(looks, found, strict=True):
            if size.done():
                continue  # nobody waits any more
            if isinstance(there, OSError):
                size.set_exception(there)
            else:
                size.set_result(there)

    async def put(self, key: str, content: Path | bytes, content_type: str) -> None:  # noqa: ARG002 - files have none
        """Write in a thread: see files.keep."""
        draft = self.folder / STAGING / secrets.token_hex(16)
        async with self._writes:
            with translated(gone=PictureStoreDown):
                await asyncio.to_thread(files.keep, content, draft, self.folder / key)

    async def pieces(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Read an object piece by piece; what was read or written lately needs no thread: 9 of these take 0.5 ms."""
        with translated():
            opened = await _opened(self.folder / key)
            try:
                for place in range(start, end, self.piece):
                    length = min(self.piece, end - place)
                    piece = self._reader.ready(opened, place, length)
                    yield piece or await asyncio.to_thread(files.read, opened, place, length)
            finally:
                os.close(opened)

    async def probe(self) -> None:
        """Write a few bytes, and look at the free space."""
        await self.put(PROBE, b"ok", "")
        with translated():
            free = (await asyncio.to_thread(shutil.disk_usage, self.folder)).free
        if free < self._room:
            raise PictureStoreDown(f"only {free} bytes are free")

    async def tidy(self) -> None:
        """Remove drafts that nobody writes any more."""
        await asyncio.to_thread(self._tidy)

    def _tidy(self) -> None:
        with translated(gone=PictureStoreDown):
            for draft in (self.folder / STAGING).glob("*"):
                with suppress(FileNotFoundError):  # it has got its final name meanwhile
                    if time.time() - draft.stat().st_mtime > ABANDONED_SECONDS:  # noqa: TID251 - the age of a file
                        draft.unlink(missing_ok=True)


class Bucket(Objects):
    """Objects of an S3 bucket, in part of it when there is a prefix. Who may is said by the usual AWS_* names."""

    piece = S3_PIECE

    def __init__(self, bucket: str, prefix: str) -> None:
        with translated():
            super().__init__(
                S3Store(
                    bucket,
                    prefix=prefix or None,
                    # An endpoint over http has to be named by the operator.
                    client_options={"timeout": "60s", "connect_timeout": "5s", "allow_http": True},
                    retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},  # its default is minutes
                )
            )

    async def put(self, key: str, content: Path | bytes, content_type: str) -> None:
        """Write in one request, or in parts when it is large; either shows only when it is whole."""
        async with self._writes:
            with translated(gone=PictureStoreDown):
                await obstore.put_async(
                    self._store,
                    key,
                    content,
                    attributes={"Content-Type": content_type},
                    chunk_size=S3_PART,
                    max_concurrency=1,
                )

    async def probe(self) -> None:
        """Write a few bytes."""
        await self.put(PROBE, b"ok", "text/plain")

    async def tidy(self) -> None:
        """Nothing: what was broken off is not seen, and a lifecycle rule of the bucket removes it."""


async def _opened(path: Path) -> int:
    """Open a file for reading in a thread; who is cancelled meanwhile leaves no file open."""
    opening = asyncio.get_running_loop().run_in_executor(None, files.opened, path)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        os.close(opening.result())


@contextmanager
def translated(gone: type[Exception] = PictureGone) -> Generator[None]:
    """Say failures in the port's words; `gone` is raised for what is not there."""
    try:
        yield
    except FileNotFoundError as failure:
        raise gone(_reason(failure)) from failure
    except (BaseError, OSError, ValueError) as failure:
        raise PictureStoreDown(_reason(failure)) from failure


def _reason(failure: Exception) -> str:
    """Give obstore's first line, without what a server said: that may repeat parts of the request's signature."""
    line = str(failure).partition("\n")[0].partition("<")[0]
    return f"{type(failure).__name__}: {line[:LONGEST_REASON]}"
