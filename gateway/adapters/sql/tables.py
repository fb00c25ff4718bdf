"""The tables."""

from typing import Any

import sqlalchemy as sa

from gateway.adapters.sql.types import AnyText, CidrList, Factor, Percents, UtcTime, Words
from gateway.domain.limits import Limit

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)


def _limits() -> list[sa.Column[Any]]:
    """Give a column for each limit: null is unlimited, money is in millionths."""
    counted: list[sa.Column[Any]] = [sa.Column(limit.value, sa.BigInteger) for limit in Limit]
    return [*counted, sa.Column("shadow", sa.Boolean, nullable=False)]


installation = sa.Table(
    "installation",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("archived_at", UtcTime),
    sa.Column("models", Words, nullable=False),
    sa.Column("weight", sa.Integer, nullable=False, server_default="1"),
    sa.Column("markup", Factor, nullable=False, server_default="1000000"),
    *_limits(),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("prefix", sa.String(32), nullable=False),
    sa.Column("last_four", sa.String(4), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("digested_with", sa.String(16)),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime),
    sa.Column("revoked_at", UtcTime),
    sa.Column("disabled_at", UtcTime),
    sa.Column("project_id", sa.String(32), sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("account", sa.String(32)),
    sa.Column("previous_digest", sa.LargeBinary(32)),
    sa.Column("previous_until", UtcTime),
    sa.Column("last_used_at", UtcTime),
    sa.Column("models", Words, nullable=False),
    sa.Column("ips", CidrList, nullable=False),
    sa.Column("cache_scope", sa.String(16)),
    sa.Column("unwatermarked_allowed", sa.Boolean, nullable=False),
    sa.Column("metadata", sa.JSON, nullable=False),
    *_limits(),
)
# A revoked key's name is free again, so that what replaces it may bear it.
sa.Index(
    None,
    keys.c.project_id,
    keys.c.name,
    unique=True,
    sqlite_where=keys.c.revoked_at.is_(None),
    postgresql_where=keys.c.revoked_at.is_(None),
)

admin_keys = sa.Table(
    "admin_keys",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("prefix", sa.String(32), nullable=False),
    sa.Column("last_four", sa.String(4), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("digested_with", sa.String(16)),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime),
    sa.Column("revoked_at", UtcTime),
    sa.Column("last_used_at", UtcTime),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("project_id", sa.String(32), sa.ForeignKey("projects.id"), primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("thresholds", Percents, nullable=False),
    sa.Column("secret_id", sa.String(32), nullable=False),
    sa.Column("previous_secret_id", sa.String(32)),
    sa.Column("previous_until", UtcTime),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("disabled_at", UtcTime),
)

# The outbox of alerts and their history. A test has no threshold; null is like no other null, so tests are never equal.
webhook_deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("project_id", sa.String(32), nullable=False),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("limit", sa.String(32)),
    sa.Column("period", sa.String(16)),
    sa.Column("period_ends", UtcTime),
    sa.Column("threshold", sa.Integer),
    sa.Column("amount", sa.BigInteger),
    sa.Column("used", sa.BigInteger),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("tries_left", sa.Integer, nullable=False),
    sa.Column("last_status", sa.Integer),
    sa.Column("last_error", sa.Text),
    sa.Column("last_tried_at", UtcTime),
    sa.Column("next_try_at", UtcTime),
    sa.Column("delivered_at", UtcTime),
    sa.UniqueConstraint("project_id", "limit", "period", "threshold", "amount"),
    sa.Index(None, "next_try_at"),
)

# A row per change, with the fields of domain.audit; triggers refuse to change or delete any. No foreign keys, as below.
audit_log = sa.Table(
    "audit_log",
    metadata,
    # SQLite numbers only what is an INTEGER by name, and AUTOINCREMENT keeps it from giving a number twice.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("time", UtcTime, nullable=False),
    sa.Column("type", sa.String(64), nullable=False),
    sa.Column("actor_kind", sa.String(16), nullable=False),
    sa.Column("actor_id", sa.Text, nullable=False),
    sa.Column("actor_name", sa.Text, nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    sa.Column("user_agent", sa.Text, nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("resource_id", sa.Text, nullable=False),
    sa.Column("project_id", sa.String(32), nullable=False),
    sa.Column("project_name", sa.String(100), nullable=False),
    sa.Column("before", sa.JSON, nullable=False),
    sa.Column("after", sa.JSON, nullable=False),
    sa.Index(None, "time"),
    sa.Index(None, "resource_id"),
    sqlite_autoincrement=True,
)

# A row per job, with the fields of domain.usage.UsageEvent. No foreign keys: rows outlive keys and projects.
usage_events = sa.Table(
    "usage_events",
    metadata,
    sa.Column("event_id", sa.String(64), primary_key=True),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("time", UtcTime, nullable=False),
    sa.Column("project_id", sa.String(32), nullable=False),
    sa.Column("key_id", sa.String(32), nullable=False),
    sa.Column("requested_model", sa.Text, nullable=False),  # the client's own word, of any length
    sa.Column("upstream_model", sa.Text, nullable=False),
    sa.Column("upstream_account", sa.Text, nullable=False),
    sa.Column("size", sa.String(32), nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("pictures_requested", sa.Integer, nullable=False),
    sa.Column("pictures_delivered", sa.Integer, nullable=False),
    sa.Column("pictures_paid", sa.Integer, nullable=False),
    sa.Column("cache", sa.String(16), nullable=False),
    sa.Column("cost", sa.BigInteger, nullable=False),
    sa.Column("cost_currency", sa.String(8), nullable=False),
    sa.Column("cost_uncertain", sa.Boolean, nullable=False),
    sa.Column("price", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.String(8), nullable=False),
    sa.Column("latency_ms", sa.BigInteger, nullable=False),
    sa.Column("queue_ms", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("error_code", sa.Text, nullable=False),
    sa.Column("end_user_hash", sa.String(64), nullable=False),
    sa.Column("prompt_hash", sa.String(64), nullable=False),
    sa.Column("account_costs", sa.Text, nullable=False, server_default=""),
    sa.Column("prompt", AnyText),
    sa.Index(None, "project_id", "time"),
    sa.Index(None, "key_id", "time"),
    sa.Index(None, "time"),
)


# What sums are kept of, besides whole numbers of requests and pictures, and of money in millionths.
AMOUNTS = ("requests", "delivered", "paid", "uncertain", "cost", "price")
_CURRENCIES = ("cost_currency", "currency")


def _sums_of_lines(name: str, *words: str, unique: bool = True) -> sa.Table:
    """Make a table of sums by period (`time` is its beginning), by these columns of the lines and by currency."""
    return sa.Table(
        name,
        metadata,
        sa.Column("time", UtcTime, nullable=False, primary_key=unique),
        *(_like(word, primary_key=unique) for word in (*words, *_CURRENCIES)),
        *(sa.Column(amount, sa.BigInteger, nullable=False) for amount in AMOUNTS),
        *([] if unique else [sa.Index(None, "time")]),
        *(sa.Index(None, word, "time") for word in ("project_id", "key_id") if word in words),
    )


def _like(word: str, *, primary_key: bool) -> sa.Column[Any]:
    return sa.Column(word, usage_events.c[word].type, nullable=False, primary_key=primary_key)


_ALL = ("project_id", "upstream_model", "source")
# Two sets each: keys, outcomes and sizes at once would leave hardly less rows than lines.
usage_hours = _sums_of_lines("usage_hours", *_ALL, "key_id", "outcome")
usage_hours_by_size = _sums_of_lines("usage_hours_by_size", *_ALL, "size")
usage_days = _sums_of_lines("usage_days", *_ALL, "key_id", "outcome")
usage_days_by_size = _sums_of_lines("usage_days_by_size", *_ALL, "size")
# What lines came to that are not kept any more, by hour; a group may have several rows, which add up.
usage_archive = _sums_of_lines("usage_archive", *_ALL, "key_id", "outcome", "size", "end_user_hash", unique=False)

# The hours and days (`period`) whose sums have to be made anew. Locked: shared by who writes lines of an hour, alone by
# who sums it up.
usage_stale = sa.Table(
    "usage_stale",
    metadata,
    sa.Column("period", sa.String(4), primary_key=True),
    sa.Column("time", UtcTime, primary_key=True),
)
