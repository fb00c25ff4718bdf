"""Settlements that wait on disk: one file each, written whole and synced before it counts."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.domain.usage import UsageEvent
from gateway.service.ports import Settlement


class DiskSpool:
    """The spool port over a directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, settlement: Settlement) -> None:
        """Keep a settlement; OSError when the disk refuses."""
        await asyncio.to_thread(self._write, self._path(settlement.event), msgspec.json.encode(settlement))

    async def waiting(self) -> list[Settlement]:
        """Give what waits, the oldest first."""
        return await asyncio.to_thread(lambda: list(self._read()))

    async def remove(self, settlement: Settlement) -> None:
        """Forget a settlement that was made."""
        await asyncio.to_thread(self._path(settlement.event).unlink, missing_ok=True)

    def _read(self) -> Iterator[Settlement]:
        """Read every file; a damaged one is put aside for the operator."""
        for path in sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Settlement)
            except (msgspec.DecodeError, UnicodeDecodeError):
                path.rename(path.with_suffix(".damaged"))

    def _path(self, event: UsageEvent) -> Path:
        return self._folder / f"{event.event_id}.json"

    def _write(self, path: Path, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
