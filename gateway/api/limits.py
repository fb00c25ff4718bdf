"""What a known key is told of its limits: `x-ratelimit-*` (openai-images-api.md section 5.1)."""

from collections.abc import Iterable

from gateway.domain.limits import IMAGES, Limit, Room

_UNITS = {Limit.REQUESTS_PER_MINUTE: "requests", **dict.fromkeys(IMAGES, "images")}


def limit_headers(rooms: Iterable[Room]) -> dict[str, str]:
    """Tell of the tightest window of each unit; nothing where there is no limit."""
    tightest: dict[str, tuple[int, Room]] = {}
    for room in rooms:
        unit, left = _UNITS.get(room.limit), max(room.value - room.used, 0)
        if unit is not None and (unit not in tightest or left < tightest[unit][0]):
            tightest[unit] = left, room
    headers: dict[str, str] = {}
    for unit, (left, room) in tightest.items():
        seconds = -(-room.resets_in // 1000)
        headers[f"x-ratelimit-limit-{unit}"] = str(room.value)
        headers[f"x-ratelimit-remaining-{unit}"] = str(left)
        headers[f"x-ratelimit-reset-{unit}"] = _duration(seconds) if unit == "requests" else str(seconds)
    return headers


def _duration(seconds: int) -> str:
    """Write a time as OpenAI does: `6m0s`, `59s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
