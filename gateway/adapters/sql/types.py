"""What columns hold that SQL has no type for. Times are stored in UTC; SQLite keeps no zone: they get one when read."""

from datetime import UTC, datetime
from decimal import Decimal

import sqlalchemy as sa

from gateway.domain.addresses import Networks, parse_networks


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


class AnyText(sa.types.TypeDecorator[str]):
    """A text in which clients may have written any character; PostgreSQL holds no NUL."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Write what there is no place for as the character that stands for such ones."""
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if value and dialect.name == "postgresql" else value


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
