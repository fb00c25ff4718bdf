"""What was used and what it comes to: the ledger, summed for who operates the gateway."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.domain.reports import SECONDS, Group, Question, Sums, end_of, page_of_buckets, parse_since
from gateway.service.ports import Clock
from gateway.service.ports_keys import KeyStore, ProjectStore
from gateway.service.ports_reports import UsageReports


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """Sums in the order of their groups, and the names of projects and keys by id: a line may outlive what it names."""

    rows: Sequence[Sums]
    names: Mapping[str, str]


class ReportUsage:
    """The operator's use case behind `glm-gateway usage`."""

    def __init__(self, reports: UsageReports, projects: ProjectStore, keys: KeyStore, clock: Clock) -> None:
        self._reports = reports
        self._projects = projects
        self._keys = keys
        self._clock = clock

    async def __call__(self, since: str, by: tuple[Group, ...]) -> UsageReport:
        """Sum what began within a time like `7d`, or since a date.

        Raises:
            InvalidValue: `since` is neither.
            DatabaseUnavailable: the ledger is away.
        """
        # Without an end: lines have the store's time, which may be ahead of this machine's.
        rows = await self._reports.sums(Question(start=parse_since(since, self._clock.now()), by=by))
        return UsageReport(rows=sorted(rows, key=_place), names=await self._names(by))

    async def _names(self, by: Sequence[Group]) -> dict[str, str]:
        names = {one.id: one.name for one in (await self._projects.list() if Group.PROJECT in by else ())}
        return names | {one.id: one.name for one in (await self._keys.list() if Group.KEY in by else ())}


def _place(row: Sums) -> tuple[str | datetime, ...]:
    """Order by the groups as they were asked for."""
    return (*row.group.values(), row.currency, row.cost_currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAsked:
    """A page of periods: times in Unix seconds; without an end until the end of the present period.

    Without `prices` only pictures and requests are summed, whatever currencies they were charged in.
    """

    start: int
    end: int | None
    width: Group
    by: tuple[Group, ...]
    only: Mapping[Group, Sequence[str]]
    limit: int
    page: str = ""
    prices: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A period in Unix seconds, and its sums: one for each group, and currency if prices are asked for, in order."""

    start: int
    end: int
    sums: Sequence[Sums]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePage:
    """Periods in their order, those without a line too; `following` asks for the next ones."""

    buckets: Sequence[Bucket]
    following: str | None


class PageUsage:
    """The use case behind the usage API: sums by period, page by page."""

    def __init__(self, reports: UsageReports, clock: Clock) -> None:
        self._reports = reports
        self._clock = clock

    async def __call__(self, asked: PageAsked) -> UsagePage:
        """Sum a page of periods.

        Raises:
            InvalidValue: the range or the page is none.
            DatabaseUnavailable: the ledger is away.
        """
        end = asked.end if asked.end is not None else max(asked.start + 1, end_of(self._clock.now(), asked.width))
        page = page_of_buckets(asked.start, end, asked.width, asked.limit, asked.page)
        first, last = page.bounds[0][0], page.bounds[-1][1]
        question = Question(
            start=_moment(first),
            end=_moment(last),
            by=(asked.width, *asked.by),
            only=asked.only,
            costs=False,
            prices=asked.prices,
        )
        found = defaultdict[object, list[Sums]](list)
        for sums in sorted(await self._reports.sums(question), key=_place):
            found[sums.group[asked.width]].append(sums)
        seconds = SECONDS[asked.width]
        buckets = [Bucket(start=at, end=to, sums=found[_moment(at - at % seconds)]) for at, to in page.bounds]
        return UsagePage(buckets=buckets, following=page.following)


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)
