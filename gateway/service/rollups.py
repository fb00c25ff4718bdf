"""Keeps the sums of hours and days that reports are made of, and lets go of old lines."""

from datetime import timedelta

from gateway.domain.reports import Group
from gateway.service.ports import Clock
from gateway.service.ports_reports import RollupStore

GRACE = timedelta(minutes=5)  # after an hour's end: most of its jobs have ended by then, and are summed up but once
BATCH = 5000  # lines that one transaction takes away


class Rollups:
    """What one replica does for all; several are harmless."""

    def __init__(self, store: RollupStore, clock: Clock, retention: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention

    async def tend(self) -> None:
        """Sum up what is over and stale, then archive what is older than lines are kept.

        Raises:
            LedgerUnavailable: what is left is done in the next round.
        """
        for group in (Group.HOUR, Group.DAY):
            for start in (await self._store.stale()).due(group, self._clock.now() - GRACE):
                await self._store.roll_up(group, start)
        while await self._store.archive(self._clock.now() - self._retention, BATCH):
            pass
