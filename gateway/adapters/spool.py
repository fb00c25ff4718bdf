"""Settlements that wait on disk: one file each, written whole and synced before it counts."""

import asyncio
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from gateway.service.ports import Settlement


class DiskSpool:
    """The spool port over a directory, and one beside it for what the store has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._confirmed = folder.with_name(f"{folder.name}-confirmed")
        self._turn: deque[str] = deque()  # files of those confirmed that are still to be given in this round

    async def put(self, settlement: Settlement) -> None:
        """Keep a settlement; OSError when the disk refuses."""
        await asyncio.to_thread(self._write, self._path(settlement), msgspec.json.encode(settlement))

    async def waiting(self) -> list[Settlement]:
        """Give what waits, the oldest first."""
        oldest = partial(sorted, key=lambda path: path.stat().st_mtime)
        return await asyncio.to_thread(lambda: list(_read(oldest(self._folder.glob("*.json")))))

    async def confirmed(self, most: int) -> list[Settlement]:
        """Give some of what waits for the ledger only: each once before any comes again."""
        return await asyncio.to_thread(lambda: list(_read(self._next(most))))

    async def remove(self, settlement: Settlement) -> None:
        """Forget a settlement that was made."""
        for path in {self._path(settlement), self._folder / _name(settlement)}:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    def _next(self, most: int) -> Iterator[Path]:
        """Name so many files of this round, in any order; a round that is over begins anew."""
        if not self._turn:
            with suppress(FileNotFoundError):  # nothing was ever put there
                self._turn.extend(path.name for path in self._confirmed.iterdir() if path.suffix == ".json")
        for _ in range(min(most, len(self._turn))):
            yield self._confirmed / self._turn.popleft()

    def _path(self, settlement: Settlement) -> Path:
        return (self._confirmed if settlement.confirmed else self._folder) / _name(settlement)

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            with suppress(OSError):
                draft.unlink()  # a part of a file on a full disk is nobody's any more
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(paths: Iterable[Path]) -> Iterator[Settlement]:
    """Read files; a damaged one is put aside for the operator, one that has gone was made meanwhile."""
    for path in paths:
        try:
            yield msgspec.json.decode(path.read_bytes(), type=Settlement)
        except FileNotFoundError:
            continue
        except (msgspec.DecodeError, UnicodeDecodeError):
            path.rename(path.with_suffix(".damaged"))


def _name(settlement: Settlement) -> str:
    return f"{settlement.event.event_id}.json"
