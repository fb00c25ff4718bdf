"""What a known key is told of its limits: `x-ratelimit-*` (openai-images-api.md section 5.1)."""

from collections.abc import Iterable

from gateway.domain.limits import IMAGES, Limit, Room

REQUESTS = frozenset({Limit.REQUESTS_PER_MINUTE})


def limit_headers(rooms: Iterable[Room]) -> dict[str, str]:
    """Tell of the tightest window of each unit; nothing where there is no limit."""
    headers: dict[str, str] = {}
    listed = list(rooms)
    for unit, limits in (("requests", REQUESTS), ("images", IMAGES)):
        window = min((room for room in listed if room.limit in limits), key=_left, default=None)
        if window is not None:
            seconds = -(-window.resets_in // 1000)
            headers[f"x-ratelimit-limit-{unit}"] = str(window.value)
            headers[f"x-ratelimit-remaining-{unit}"] = str(_left(window))
            headers[f"x-ratelimit-reset-{unit}"] = _duration(seconds) if unit == "requests" else str(seconds)
    return headers


def _left(room: Room) -> int:
    return max(room.value - room.used, 0)


def _duration(seconds: int) -> str:
    """Write a time as OpenAI does: `6m0s`, `59s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
