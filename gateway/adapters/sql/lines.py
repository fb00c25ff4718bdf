"""Lines of the ledger as drivers take them: SQLAlchemy takes 15 us to make one so, and SQLite 5 to store it."""

from dataclasses import fields
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.adapters.sql.sums import UNCERTAIN
from gateway.adapters.sql.tables import usage_events
from gateway.domain.usage import RANKS, Outcome, UsageEvent

Row = tuple[object, ...]

NAMED = "event_ids"  # one parameter for all of them: with one for each SQLAlchemy takes longer than SQLite
_COLUMNS = tuple(field.name for field in fields(UsageEvent))
_values_of = attrgetter(*_COLUMNS)


class Lines:
    """What is said of lines in one dialect: their rows, and `upsert`, which takes a row and adds or improves its line.

    `named` are those whose ids the parameter NAMED has; `times` and `outcomes` ask for these.
    """

    def __init__(self, dialect: sa.Dialect) -> None:
        self.named = _named(dialect.name)
        self.times = sa.select(usage_events.c.time).where(self.named)
        self.outcomes = sa.select(usage_events.c.event_id, usage_events.c.outcome).where(self.named)
        self.upsert = str(_upsert(dialect.name).compile(dialect=dialect, column_keys=_COLUMNS))
        types = [usage_events.c[name].type.dialect_impl(dialect) for name in _COLUMNS]
        converters = [kind.bind_processor(dialect) for kind in types]
        self._converted = [(number, convert) for number, convert in enumerate(converters) if convert is not None]

    def row(self, event: UsageEvent) -> Row:
        """Give the values of a line in the order of the statement."""
        values = [*_values_of(event)]
        for number, convert in self._converted:
            values[number] = convert(values[number])
        return tuple(values)


def _named(dialect: str) -> sa.ColumnElement[bool]:
    if dialect == "postgresql":
        return usage_events.c.event_id == sa.func.any(sa.bindparam(NAMED, type_=sa.ARRAY(sa.String)))
    listed = sa.func.json_each(sa.bindparam(NAMED, type_=sa.JSON)).table_valued("value")
    return usage_events.c.event_id.in_(sa.select(listed.c.value))


def _upsert(dialect: str) -> Any:  # noqa: ANN401 - the two dialects' inserts share no type
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(usage_events)
    changed = {name: insert.excluded[name] for name in _COLUMNS}
    better = _rank(insert.excluded.outcome) > _rank(usage_events.c.outcome)
    return insert.on_conflict_do_update(index_elements=["event_id"], set_=changed, where=better)


def _rank(outcome: Any) -> sa.ColumnElement[int]:  # noqa: ANN401 - a column, or excluded's
    """Give an outcome's rank without parameters: those would come with every row."""
    lower = [(outcome == sa.literal_column(f"'{word}'"), _number(RANKS[Outcome(word)])) for word in UNCERTAIN]
    return sa.case(*lower, else_=_number(RANKS[Outcome.DELIVERED]))


def _number(value: int) -> sa.ColumnElement[int]:
    return sa.literal_column(str(value), sa.Integer)
