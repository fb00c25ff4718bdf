"""The usage streams: what was settled and is not in the ledger yet."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from gateway.adapters.redis.names import Names, decode_event
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.domain.usage import UsageEvent
from gateway.service.ports import QuotaUnavailable

BATCH = 500  # rows: 10 to 100 times cheaper than single commits (parts.md section 3)


class RedisUsageStream:
    """The usage stream port. `set_aside` is told why a line was put aside, of its position, and of the reason."""

    def __init__(self, scripts: Scripts, *, set_aside: Callable[[str, str, str], None] | None = None) -> None:
        self._scripts = scripts
        self._set_aside = set_aside

    async def pending(self, shard: int) -> list[tuple[str, UsageEvent]]:
        """Give the oldest lines. What cannot be read is put aside, so that it does not hold up the rest."""
        names = Names(shard)
        entries = await self._call("XRANGE", names.of("events"), "-", "+", "COUNT", BATCH)
        lines: list[tuple[str, UsageEvent]] = []
        for position, fields in entries:
            content = _content(fields)
            try:
                lines.append((position.decode(), decode_event(content)))
            except (msgspec.DecodeError, UnicodeDecodeError) as failure:
                await self._move(names, position.decode(), content, "unreadable", str(failure))
        return lines

    async def put_aside(self, shard: int, reasons: Mapping[str, str]) -> None:
        """Move lines that the ledger can never hold to where the unreadable ones are."""
        names = Names(shard)
        for position, reason in reasons.items():
            for _, fields in await self._call("XRANGE", names.of("events"), position, position):
                await self._move(names, position, _content(fields), "refused", reason)

    async def remove(self, shard: int, positions: Sequence[str]) -> None:
        """Forget lines that the ledger has."""
        if positions:
            await self._call("XDEL", Names(shard).of("events"), *positions)

    async def backlog(self, shard: int) -> int:
        """Count the lines that wait."""
        return int(await self._call("XLEN", Names(shard).of("events")))

    async def _move(self, names: Names, position: str, content: bytes, why: str, reason: str) -> None:
        """Move a line; when this breaks off it lies in both places, and moves again."""
        fields = ("position", position, "event", content, "reason", reason)
        await self._call("XADD", names.of("unreadable"), "*", *fields)
        await self._call("XDEL", names.of("events"), position)
        if self._set_aside is not None:
            self._set_aside(why, position, reason)

    async def _call(self, *command: object) -> Any:  # noqa: ANN401 - a reply has the type that the command gives it
        try:
            return await self._scripts.call(*command)
        except StoreUnavailable as failure:
            raise QuotaUnavailable(str(failure)) from failure


def _content(fields: Any) -> bytes:  # noqa: ANN401 - a reply: a list or, in RESP 3, a mapping
    content: bytes = fields[1] if isinstance(fields, list) else fields[b"event"]
    return content
