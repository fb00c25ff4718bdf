"""Projects: what keys belong to, with limits that all keys of one share."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from gateway.domain.quota import Limits

PROJECT_PREFIX = "proj_"
DEFAULT_ID = "proj_default"  # made by the migration; keys made without --project belong to it
DEFAULT_NAME = "default"
UNLIMITED = Limits()
NO_MARKUP = Decimal(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project. `models` are the names of those it may use; empty means all. Times are UTC.

    `weight`: its share of the upstream's slots while others wait as well. `markup`: its prices are so many times
    those of the catalog.
    """

    id: str
    name: str
    created_at: datetime
    limits: Limits = UNLIMITED
    models: tuple[str, ...] = ()
    archived_at: datetime | None = None
    weight: int = 1
    markup: Decimal = NO_MARKUP
