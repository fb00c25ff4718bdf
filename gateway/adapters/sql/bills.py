"""Sums of the ledger's lines as the upstream bills them: by days of China, account and model."""

from datetime import date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa

from gateway.adapters.sql.tables import usage_archive, usage_events
from gateway.domain.bill import PaidSum
from gateway.domain.errors import InvalidValue
from gateway.domain.reports import Group
from gateway.domain.rollups import LENGTHS
from gateway.domain.upstream import CHINA

_LINE = usage_events.c
_DAY = 86_400  # seconds
_AHEAD = int((CHINA.utcoffset(None) or timedelta()).total_seconds())
_SINCE = date(1970, 1, 1)
_TO_THE_SECOND = len("2026-01-01 00:00:00")

LAST_ARCHIVED = sa.select(sa.func.max(usage_archive.c.time))


def statement(start: datetime, end: datetime, dialect: str) -> sa.Select[Any]:
    """Write the question in a database's words; lines that cost nothing are left out."""
    began = _moment_in_seconds(dialect) + sa.literal(_AHEAD)
    day = began // _DAY
    # A second more than the line says: what is cut off below a second could hide that it ended on the next day.
    ended = began + _LINE.latency_ms // 1000 + sa.literal(1)
    crosses = sa.case((ended // _DAY > day, 1), else_=0)
    alike = [day, crosses, _LINE.upstream_model, _LINE.upstream_account, _LINE.account_costs]
    alike += [_LINE.cost_uncertain, _LINE.cost_currency]
    sums = (_LINE.pictures_requested, _LINE.pictures_paid, _LINE.cost)
    # Grouped by position, as in reports.py.
    positions: list[sa.ColumnElement[Any]] = [sa.literal_column(str(number)) for number in range(1, len(alike) + 1)]
    # PostgreSQL's sum of bigint is a numeric, which would come as a Decimal.
    amounts = [sa.cast(sa.func.sum(column), sa.BigInteger) for column in sums]
    wanted = sa.or_(_LINE.pictures_paid > 0, _LINE.cost > 0)
    query = sa.select(*alike, sa.func.count(), *amounts).where(_LINE.time >= start, _LINE.time < end, wanted)
    return query.group_by(*positions)


def refuse_before(start: datetime, last_archived: datetime | None) -> None:
    """Refuse a question that begins before lines are kept, after the last hour of which they are not.

    Raises:
        InvalidValue: names the first day that can be compared: the one after the first that has all its lines.
    """
    kept_from = None if last_archived is None else (last_archived + LENGTHS[Group.HOUR]).astimezone(CHINA)
    if kept_from is None or kept_from <= start:
        return
    whole = kept_from.date() + timedelta(days=kept_from.time() > time.min)
    raise InvalidValue(
        f"The ledger keeps older lines as sums, which know no accounts ('ledger.retention'): a bill can be compared "
        f"from {whole + timedelta(days=1)} on.",
        param="bill",
    )


def paid_sum(row: sa.Row[Any]) -> PaidSum:
    """Read a row of the statement."""
    day, crosses, model, account, costs, uncertain, currency, lines, requested, paid, cost = tuple(row)
    return PaidSum(
        day=_SINCE + timedelta(days=day),
        crosses=bool(crosses),
        model=model,
        account=account,
        account_costs=costs,
        uncertain=uncertain,
        lines=lines,
        requested=requested,
        paid=paid,
        cost=cost,
        currency=currency,
    )


def _moment_in_seconds(dialect: str) -> sa.ColumnElement[int]:
    """Give a line's time in whole seconds since 1970."""
    if dialect == "postgresql":
        return sa.cast(sa.func.floor(sa.extract("epoch", _LINE.time)), sa.BigInteger)
    # SQLite rounds to milliseconds, so that the end of a day would belong to the next one.
    whole = sa.func.substr(sa.type_coerce(_LINE.time, sa.String), 1, _TO_THE_SECOND)
    return sa.cast(sa.func.strftime("%s", whole), sa.Integer)
