"""Compares the quota store, the ledger and a bill; sets the store right."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo

from gateway.domain.audit import repair_event
from gateway.domain.bill import BillComparison, BillRow, BillTerms, compare_bill
from gateway.domain.errors import QuotaStoreDown
from gateway.domain.quota import Calendar, calendar_of, shard_of, subject_names
from gateway.domain.reconciliation import CountDifference, ShardCounts, count_differences, lasting
from gateway.service.audit import Audit
from gateway.service.ports import Clock, QuotaRestoring
from gateway.service.ports_keys import KeyStore, ProjectStore
from gateway.service.ports_reconciliation import CalendarEnded, CounterStore, LedgerAudit

TRIES = 10
PAUSE = 1.0  # seconds between two looks, of which both have to see a difference


@dataclass(frozen=True, slots=True, kw_only=True)
class CountReport:
    """What was compared, what was not as the ledger says, and what of that still is not.

    `names` are the ids of project and key by subject; `running` are pictures of jobs that are not settled, `emptied`
    says that the store had lost counts.
    """

    names: Mapping[str, tuple[str, str]]
    differences: Sequence[CountDifference]
    left: Sequence[CountDifference]
    running: int
    emptied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    calendar: Calendar
    token: str
    shards: Mapping[int, ShardCounts]
    differences: Sequence[CountDifference]

    @property
    def emptied(self) -> list[int]:
        return [shard for shard, counts in self.shards.items() if counts.emptied]


class Reconcile:
    """The operator's use case behind `glm-gateway reconcile`.

    `drain` carries over to the ledger what waits, `refill` gives an emptied shard its counts back; `zone` is that of
    the calendar limits, `token` gives a new word each time; `terms` say in what accounts bill.
    """

    def __init__(  # noqa: PLR0913 - what is compared, and what it takes to set it right
        self,
        store: CounterStore,
        ledger: LedgerAudit,
        projects: ProjectStore,
        keys: KeyStore,
        clock: Clock,
        *,
        zone: tzinfo,
        drain: Callable[[], Awaitable[object]],
        refill: Callable[[int], Awaitable[None]],
        token: Callable[[], str],
        audit: Audit,
        terms: BillTerms,
    ) -> None:
        self._audit = audit
        self._terms = terms
        self._store = store
        self._ledger = ledger
        self._projects = projects
        self._keys = keys
        self._clock = clock
        self._zone = zone
        self._drain = drain
        self._refill = refill
        self._token = token

    async def counts(self, *, repair: bool = False) -> CountReport:
        """Compare what the store counts of this day and month with the ledger; with `repair` make it so.

        Raises:
            QuotaUnavailable, LedgerUnavailable, DatabaseUnavailable: one of them does not answer.
            QuotaStoreDown, LedgerBehind: they cannot be compared now.
        """
        await self._drain()
        names = await self._names()
        look = await self._confirmed(names)
        left = await self._repair(names, look) if repair else look.differences
        if repair:
            await self._audit.note(repair_event(look.differences))
        return CountReport(
            names=names,
            differences=look.differences,
            left=left,
            running=sum(one.pictures for shard in look.shards.values() for one in shard.open),
            emptied=bool(look.emptied),
        )

    async def bill(self, rows: Sequence[BillRow]) -> BillComparison:
        """Compare a bill with the ledger.

        Raises:
            LedgerUnavailable: that cannot be read.
            InvalidValue: the bill has days that are too old for it.
        """
        await self._drain()
        days = [row.day for row in rows]
        return compare_bill(rows, await self._ledger.paid(min(days), max(days)), self._terms)

    async def _repair(self, names: Mapping[str, tuple[str, str]], look: _Look) -> Sequence[CountDifference]:
        """Set the store right; give what could not be."""
        await asyncio.gather(*map(self._refill, look.emptied))
        for number in range(TRIES):
            if number or look.emptied:
                look = await self._confirmed(names)
            if not look.differences:
                break
            shards: defaultdict[int, list[CountDifference]] = defaultdict(list)
            for difference in look.differences:
                shards[_shard_of(difference.subject, names)].append(difference)
            for shard, differences in shards.items():
                await self._store.correct(shard, look.calendar, differences, look.token)
        return look.differences

    async def _confirmed(self, names: Mapping[str, tuple[str, str]]) -> _Look:
        """Look, and if something differs once more: what does not stay is no difference."""
        first = await self._look(names)
        if not first.differences:
            return first
        await self._clock.sleep(PAUSE)
        second = await self._look(names)
        return replace(second, differences=lasting(first.differences, second.differences))

    async def _look(self, names: Mapping[str, tuple[str, str]]) -> _Look:
        for _ in range(TRIES):
            try:
                return await self._look_once(names)
            except QuotaRestoring as restoring:
                await self._clock.sleep(restoring.wait)
            except CalendarEnded:
                await self._clock.sleep(PAUSE)
        raise QuotaStoreDown("The limits' counters were never at rest: they are being refilled. Try again later.")

    async def _look_once(self, names: Mapping[str, tuple[str, str]]) -> _Look:
        """Read all shards, then the ledger, in which what was settled meanwhile is known by its time and name."""
        subjects: defaultdict[int, list[str]] = defaultdict(list)
        for subject in names:
            subjects[_shard_of(subject, names)].append(subject)
        calendar, token = calendar_of(await self._store.now(min(subjects)), self._zone), self._token()
        looks = (self._store.look(shard, calendar, some, token) for shard, some in subjects.items())
        shards = dict(zip(subjects, await asyncio.gather(*looks), strict=True))
        ids = {one.event_id for shard in shards.values() for one in shard.open}
        ids |= {one.event_id for shard in shards.values() for one in shard.waiting}
        since = min(shard.moment for shard in shards.values())
        day, month = (self._moment(periods[0].starts) for periods in (calendar.days, calendar.months))
        ledger = await self._ledger.counts(day, month, since, ids)
        return _Look(calendar=calendar, token=token, shards=shards, differences=count_differences(shards, ledger))

    async def _names(self) -> dict[str, tuple[str, str]]:
        """Name the projects and keys of all subjects by ids: those there are, and those that lines have outlived."""
        pairs = [("", project.id) for project in await self._projects.list()]
        pairs += [(key.id, key.project.id) for key in await self._keys.list()]
        month = self._clock.now() - timedelta(days=32)
        pairs += [(used.key_id, used.project_id) for used in await self._ledger.used_since(month)]
        named: dict[str, tuple[str, str]] = {}
        for key_id, project_id in pairs:
            key, project = subject_names(key_id, project_id)
            named[project] = (project_id, "")
            if key_id:
                named[key] = (project_id, key_id)
        return named

    def _moment(self, milliseconds: int) -> datetime:
        return datetime.fromtimestamp(milliseconds / 1000, self._zone)


def _shard_of(subject: str, names: Mapping[str, tuple[str, str]]) -> int:
    return shard_of(names[subject][0])
