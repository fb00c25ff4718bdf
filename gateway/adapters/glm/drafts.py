"""Downloads under way: files that are gone when their block ends, and after a crash at the next start."""

import hashlib
import mmap
import os
import secrets
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import BinaryIO

from gateway.adapters.glm.inspection import View

LOCK = "lock"


class Draft:
    """Bytes on their way in, with their digest; in memory from the moment on at which the disk refuses them.

    Written inside the event loop: a piece of 64 KiB goes to the page cache in some 20 microseconds.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._held = bytearray()
        self._file = self._open()

    @property
    def sha256(self) -> str:
        """The digest in hex."""
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._file is not None and not self._is_written(self._file, piece):
            self._retreat()
        if self._file is None:
            self._held += piece
        self._digest.update(piece)
        self.bytes += len(piece)

    def content(self) -> bytes:
        """Give everything."""
        return bytes(self._held) if self.path is None else self.path.read_bytes()

    @contextmanager
    def view(self) -> Generator[View]:
        """Let everything be read without a copy in memory."""
        if self.path is None or not self.bytes:
            yield bytes(self._held)
            return
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped

    def drop(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()

    def _open(self) -> BinaryIO | None:
        if self.path is None:
            return None
        try:
            return self.path.open("wb", buffering=0)
        except OSError:
            self.path = None
            return None

    def _is_written(self, file: BinaryIO, piece: bytes) -> bool:
        """Write a piece; a disk that fills up takes a part of it before it refuses."""
        try:
            return file.write(piece) == len(piece)
        except OSError:
            return False

    def _retreat(self) -> None:
        """Go on in memory with what came before."""
        self._held += self.content()[: self.bytes]
        self.drop()
        self.path = self._file = None


class Drafts:
    """The drafts of one process, in a folder of its own that nobody else removes while its lock is held.

    Without a folder everything is kept in memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @contextmanager
    def draft(self) -> Generator[Draft]:
        """Begin a download; its bytes are gone when the block ends."""
        draft = Draft(self._folder / secrets.token_hex(8) if self._folder else None)
        try:
            yield draft
        finally:
            draft.drop()


@contextmanager
def open_drafts(parent: Path) -> Generator[Drafts]:
    """Make this process's folder, and remove those of processes that are no more."""
    try:
        folder, lock = _settle(parent)
    except OSError:
        yield Drafts(None)
        return
    try:
        yield Drafts(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _settle(parent: Path) -> tuple[Path, int]:
    parent.mkdir(parents=True, exist_ok=True)
    starting = _locked(parent / LOCK)  # one at a time, or a new folder might look like an abandoned one
    try:
        for abandoned in _abandoned(parent):
            shutil.rmtree(abandoned, ignore_errors=True)
        folder = parent / secrets.token_hex(8)
        folder.mkdir()
        return folder, _locked(folder / LOCK)
    finally:
        os.close(starting)


def _abandoned(parent: Path) -> Iterator[Path]:
    for folder in parent.iterdir():
        with suppress(OSError):  # its lock is held: somebody lives there
            if folder.is_dir():
                os.close(_locked(folder / LOCK, LOCK_NB))
                yield folder


def _locked(path: Path, how: int = 0) -> int:
    opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        flock(opened, LOCK_EX | how)
    except OSError:
        os.close(opened)
        raise
    return opened
