"""Lists that are given page by page."""

from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a page begins: after the item with the id `after`, or at the start. It has `limit` items at most."""

    limit: int
    after: str | None = None
    newest_first: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list, and whether more follow."""

    items: list[Item]
    has_more: bool


def page_of(found: list[Item], limit: int) -> Page[Item]:
    """Make a page of what was found when one more than its limit was asked for."""
    return Page(found[:limit], len(found) > limit)
