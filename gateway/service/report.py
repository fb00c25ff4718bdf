"""What was used and what it comes to: the ledger, summed for who operates the gateway."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.reports import Group, Question, Sums, parse_since
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
        return UsageReport(rows=sorted(rows, key=_place(by)), names=await self._names(by))

    async def _names(self, by: Sequence[Group]) -> dict[str, str]:
        names = {one.id: one.name for one in (await self._projects.list() if Group.PROJECT in by else ())}
        return names | {one.id: one.name for one in (await self._keys.list() if Group.KEY in by else ())}


def _place(by: Sequence[Group]) -> Callable[[Sums], tuple[str, ...]]:
    """Order by the groups as they were asked for; times of one zone are in the order of their texts."""
    return lambda row: (*(str(row.group[group]) for group in by), row.currency, row.cost_currency)
