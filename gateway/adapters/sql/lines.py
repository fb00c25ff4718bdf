"""Lines of the ledger as drivers take them. SQLAlchemy would take 15 us for each, three times what SQLite itself takes."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.adapters.sql.tables import usage_events
from gateway.domain.usage import RANKS, UsageEvent

Row = tuple[object, ...]

NAMED = "event_ids"  # the parameter of which a question for some lines has one
_COLUMNS = tuple(field.name for field in fields(UsageEvent))
_values_of = attrgetter(*_COLUMNS)
_WORDS = {outcome: outcome.value for outcome in RANKS}  # a driver takes long for what is not simply a str
_KNOWN = max(RANKS.values())


class Lines:
    """The rows of lines in one dialect, and `upsert`, the statement that takes one: it adds a line or improves it."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self.times = sa.select(usage_events.c.time).where(_named(dialect.name))
        self.upsert = str(_upsert(dialect.name).compile(dialect=dialect, column_keys=_COLUMNS))
        converters = {name: usage_events.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in _COLUMNS}
        converters["outcome"] = _WORDS.__getitem__
        self._converted = [(_COLUMNS.index(name), convert) for name, convert in converters.items() if convert]

    def row(self, event: UsageEvent) -> Row:
        """Give the values of a line in the order of the statement."""
        values = [*_values_of(event)]
        for number, convert in self._converted:
            values[number] = convert(values[number])
        return tuple(values)


def _named(dialect: str) -> sa.ColumnElement[bool]:
    """Ask for some lines with one parameter: SQLAlchemy takes longer for one each than SQLite for the answer."""
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
    ranks = [(outcome == sa.literal_column(f"'{word}'"), _number(rank)) for word, rank in RANKS.items() if rank < _KNOWN]
    return sa.case(*ranks, else_=_number(_KNOWN))


def _number(value: int) -> sa.ColumnElement[int]:
    return sa.literal_column(str(value), sa.Integer)
