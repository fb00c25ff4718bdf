"""Pages of lists."""

from typing import TypeVar

from gateway.domain.errors import InvalidValue
from gateway.domain.paging import Page, Place

Item = TypeVar("Item")


def found(page: Page[Item] | None, place: Place) -> Page[Item]:
    """Give a page; InvalidValue when the list never had the item that it was to begin after."""
    if page is None:
        raise InvalidValue(f"'after' is {(place.after or '')[:100]!r}, which this list never had.", param="after")
    return page
