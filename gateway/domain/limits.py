"""What can be limited, and how far a limit is used."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class Limit(StrEnum):
    """What can be limited; the value is the name of the setting."""

    REQUESTS_PER_MINUTE = "requests_per_minute"
    IMAGES_PER_MINUTE = "images_per_minute"
    IMAGES_PER_DAY = "images_per_day"
    IMAGES_PER_MONTH = "images_per_month"
    CONCURRENT = "concurrent"
    SPEND_PER_MONTH = "spend_per_month"


# Limits whose unit is a picture.
IMAGES = frozenset({Limit.IMAGES_PER_MINUTE, Limit.IMAGES_PER_DAY, Limit.IMAGES_PER_MONTH})
# Limits that are over within a minute, so that waiting helps.
SHORT = frozenset({Limit.REQUESTS_PER_MINUTE, Limit.IMAGES_PER_MINUTE, Limit.CONCURRENT})


class Room(NamedTuple):
    """How far one limit of one subject is used, counting this request; `resets_in` milliseconds frees some of it."""

    subject: str
    limit: Limit
    value: int
    used: int
    resets_in: int


def given_back(rooms: Iterable[Room], pictures: int) -> tuple[Room, ...]:
    """Say how far limits are used when so many pictures that were taken have been given back."""
    if not pictures:
        return tuple(rooms)
    return tuple(room._replace(used=room.used - pictures) if room.limit in IMAGES else room for room in rooms)
