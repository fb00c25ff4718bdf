"""What the reports need of the ledger, and what keeps them fast."""

from datetime import datetime
from typing import Protocol

from gateway.domain.reports import Group, Question, Sums
from gateway.domain.rollups import Stale


class UsageReports(Protocol):
    """The ledger as it is read."""

    async def sums(self, question: Question) -> list[Sums]:
        """Sum lines by groups and currencies, in any order; no line, no group. DatabaseUnavailable while it is away."""


class RollupStore(Protocol):
    """The sums of hours and days that reports are made of; LedgerUnavailable while SQL is away."""

    async def stale(self) -> Stale:
        """Name the hours and days whose sums are not what their lines come to."""

    async def roll_up(self, group: Group, start: datetime) -> None:
        """Sum up an hour or a day anew, unless somebody else is at it or a day has a stale hour."""

    async def archive(self, before: datetime, most: int) -> int:
        """Put sums in the place of about `most` of the oldest lines that began before a moment; give how many.

        0: there are none, or their hour is stale.
        """
