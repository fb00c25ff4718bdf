"""The usage streams: what was settled and is not in the ledger yet."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.adapters.redis.names import Names, decode_event
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.domain.usage import UsageEvent
from gateway.service.ports import QuotaUnavailable

BATCH = 500  # rows: 10 to 100 times cheaper than single commits (parts.md section 3)


class RedisUsageStream:
    """The usage stream port."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def pending(self, shard: int) -> list[tuple[str, UsageEvent]]:
        """Give the oldest lines. What cannot be read is moved aside, so that it does not hold up the rest."""
        names = Names(shard)
        entries = await self._call("XRANGE", names.of("events"), "-", "+", "COUNT", BATCH)
        lines: list[tuple[str, UsageEvent]] = []
        for position, fields in entries:
            content = fields[1] if isinstance(fields, list) else fields[b"event"]
            try:
                lines.append((position.decode(), decode_event(content)))
            except (msgspec.DecodeError, UnicodeDecodeError):
                await self._call("XADD", names.of("unreadable"), position, "event", content)
                await self._call("XDEL", names.of("events"), position)
        return lines

    async def remove(self, shard: int, positions: Sequence[str]) -> None:
        """Forget lines that the ledger has."""
        if positions:
            await self._call("XDEL", Names(shard).of("events"), *positions)

    async def backlog(self, shard: int) -> int:
        """Count the lines that wait."""
        return int(await self._call("XLEN", Names(shard).of("events")))

    async def _call(self, *command: object) -> Any:  # noqa: ANN401 - a reply has the type that the command gives it
        try:
            return await self._scripts.call(*command)
        except StoreUnavailable as failure:
            raise QuotaUnavailable(str(failure)) from failure
