"""The usage streams: what was settled and is not in the ledger yet."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.adapters.redis.names import Names, decode_event
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.domain.usage import UsageEvent
from gateway.service.ports import QuotaUnavailable

BATCH = 1000  # lines; 500 cost a tenth more each
TURN_SECONDS, BEATS = 5.0, 5  # how long a turn lasts unless renewed, and how often it is renewed in that time
DEADLINE = 2.0


@dataclass(slots=True)
class RedisTurn:
    """The turn port."""

    ours: bool


class RedisUsageStream:
    """The usage stream port of one replica, `owner`; a `turn` lasts so many seconds unless it is renewed.

    `set_aside` is told why a line was put aside, of its position, and of the reason.
    """

    def __init__(
        self,
        scripts: Scripts,
        owner: str,
        *,
        turn: float = TURN_SECONDS,
        set_aside: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self._scripts = scripts
        self._owner = owner
        self._turn = turn
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
                content = _content(fields)
                await self._call("SADD", names.of("refused"), decode_event(content).event_id)
                await self._move(names, position, content, "refused", reason)

    async def refused(self, shard: int, event_ids: Sequence[str]) -> set[str]:
        """Name the jobs whose lines were put aside because of the ledger."""
        if not event_ids:
            return set()
        found = await self._call("SMISMEMBER", Names(shard).of("refused"), *event_ids)
        return {event_id for event_id, there in zip(event_ids, found, strict=True) if there}

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

    @asynccontextmanager
    async def turn(self, shard: int) -> AsyncGenerator[RedisTurn]:
        """Be the only one that carries over a shard's lines until the block ends, if no other replica is."""
        name = Names(shard).of("drain")
        try:
            turn = RedisTurn(ours=await self._take(name, self._turn))
        except StoreUnavailable as failure:
            raise QuotaUnavailable(str(failure)) from failure
        if not turn.ours:
            yield turn
            return
        renewing = asyncio.create_task(self._renew(name, turn))
        try:
            yield turn
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            with suppress(StoreUnavailable):  # it ends by itself
                await self._take(name, 0)

    async def _renew(self, name: str, turn: RedisTurn) -> None:
        while turn.ours:
            await asyncio.sleep(self._turn / BEATS)
            with suppress(StoreUnavailable):
                turn.ours = await self._take(name, self._turn)

    async def _take(self, name: str, seconds: float) -> bool:
        return bool(await self._scripts.run("turn", [name], [self._owner, round(seconds * 1000)], DEADLINE))

    async def _call(self, *command: object) -> Any:  # noqa: ANN401 - a reply has the type that the command gives it
        try:
            return await self._scripts.call(*command)
        except StoreUnavailable as failure:
            raise QuotaUnavailable(str(failure)) from failure


def _content(fields: Any) -> bytes:  # noqa: ANN401 - a reply: a list or, in RESP 3, a mapping
    content: bytes = fields[1] if isinstance(fields, list) else fields[b"event"]
    return content
