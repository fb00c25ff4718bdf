"""Settlements that wait on disk: one file each, written whole and synced before it counts."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.domain.quota import Reservation
from gateway.domain.usage import UsageEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is to be charged for a reservation."""

    reservation: Reservation
    charged: int
    event: UsageEvent


class DiskSpool:
    """The spool port over a directory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, reservation: Reservation, charged: int, event: UsageEvent) -> None:
        """Keep a settlement."""
        settlement = Settlement(reservation=reservation, charged=charged, event=event)
        await asyncio.to_thread(self._write, event.event_id, msgspec.json.encode(settlement))

    def waiting(self) -> Iterator[Settlement]:
        """Give what waits; a file that is damaged stays where it is for the operator."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=Settlement)
            except (msgspec.DecodeError, UnicodeDecodeError):
                path.rename(path.with_suffix(".damaged"))

    def remove(self, event_id: str) -> None:
        """Forget a settlement that was made."""
        (self._folder / f"{event_id}.json").unlink(missing_ok=True)

    def _write(self, event_id: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft, path = self._folder / f"{event_id}.draft", self._folder / f"{event_id}.json"
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
