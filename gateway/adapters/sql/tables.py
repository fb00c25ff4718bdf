"""The tables. Times are stored in UTC; SQLite keeps no zone, so they are given one when they are read."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from gateway.domain.addresses import Networks, parse_networks
from gateway.domain.limits import Limit

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A moment in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Write in UTC."""
        del dialect
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Read with a zone."""
        del dialect
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


class Words(sa.types.TypeDecorator[tuple[str, ...]]):
    """A list of words, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: sa.Dialect) -> list[str]:
        """Write a list."""
        del dialect
        return list(value or ())

    def process_result_value(self, value: list[str] | None, dialect: sa.Dialect) -> tuple[str, ...]:
        """Read a tuple."""
        del dialect
        return tuple(value or ())


class Percents(sa.types.TypeDecorator[tuple[int, ...]]):
    """A list of whole percents, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: tuple[int, ...] | None, dialect: sa.Dialect) -> list[int]:
        """Write a list."""
        del dialect
        return list(value or ())

    def process_result_value(self, value: list[int] | None, dialect: sa.Dialect) -> tuple[int, ...]:
        """Read a tuple."""
        del dialect
        return tuple(value or ())


class CidrList(sa.types.TypeDecorator[Networks]):
    """A list of networks, as JSON."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Networks | None, dialect: sa.Dialect) -> list[str]:
        """Write texts."""
        del dialect
        return [str(network) for network in value or ()]

    def process_result_value(self, value: list[str] | None, dialect: sa.Dialect) -> Networks:
        """Read networks."""
        del dialect
        return parse_networks(value or ())


class Factor(sa.types.TypeDecorator[Decimal]):
    """A decimal number, as millionths: SQLite has no exact ones."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> int | None:
        """Write millionths."""
        del dialect
        return None if value is None else int(value.scaleb(6))

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> Decimal | None:
        """Read millionths."""
        del dialect
        return None if value is None else Decimal(value).scaleb(-6)


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
    sa.Index(None, "project_id", "time"),
    sa.Index(None, "key_id", "time"),
    sa.Index(None, "time"),
)
