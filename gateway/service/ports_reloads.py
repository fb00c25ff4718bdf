"""What the use cases need to let all replicas read their settings anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """What came of it at a replica: `refused` says why nothing was changed, `fixed` names what takes a restart."""

    replica: str
    refused: str = ""
    fixed: tuple[str, ...] = ()


class Reloads(Protocol):
    """The way to all replicas. All may raise QuotaUnavailable."""

    async def call(self, call: str) -> int:
        """Let replicas read their settings anew; gives how many hear it."""

    async def answers(self, call: str) -> Sequence[Reloaded]:
        """Give what replicas have said to a call so far."""
