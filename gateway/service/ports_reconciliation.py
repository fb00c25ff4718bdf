"""What comparing the quota store, the ledger and a bill needs."""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Protocol

from gateway.domain.bill import PaidSum
from gateway.domain.quota import Calendar
from gateway.domain.reconciliation import CountDifference, LedgerCounts, ShardCounts
from gateway.domain.usage import Used


class CounterStore(Protocol):
    """The counters of the quota store, as they are read and set right; QuotaUnavailable without an answer."""

    async def now(self, shard: int) -> int:
        """Give the store's time in ms since 1970."""

    async def look(self, shard: int, calendar: Calendar, subjects: Collection[str], token: str) -> ShardCounts:
        """Read a shard as of one instant. The token is for correcting what was read.

        Raises:
            CalendarEnded: the store is not in this day and month any more.
            QuotaRestoring: it is being refilled.
            LedgerBehind: too many lines wait.
        """

    async def correct(
        self, shard: int, calendar: Calendar, differences: Collection[CountDifference], token: str
    ) -> bool:
        """Add what counters lack to them, all or none; False when the look of the token was not the last one."""


class CalendarEnded(Exception):
    """A new day or month has begun."""


class LedgerAudit(Protocol):
    """The ledger as it is compared; LedgerUnavailable when it cannot be read."""

    async def used_since(self, start: datetime) -> list[Used]:
        """Sum what every key was charged for since a moment."""

    async def counts(self, day: datetime, month: datetime, since: datetime, event_ids: Collection[str]) -> LedgerCounts:
        """Sum since two moments and give single lines, those since a third one and those named: as of one instant."""

    async def paid(self, first: date, last: date) -> Sequence[PaidSum]:
        """Sum what accounts took on days of China, and on the day before the first what may belong to that.

        Raises:
            InvalidValue: of some of these days it does not know any more which account took what.
        """
