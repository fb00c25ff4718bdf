"""Every change of the operator's and its line of the audit log: both are stored, or neither."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from gateway.domain.audit import Actor, AuditEntry, AuditEvent, AuditQuestion, has_changes
from gateway.domain.paging import Page
from gateway.domain.reports import parse_since
from gateway.service.ports import Clock

PAGE = 100  # lines that are read at once


class AuditLog(Protocol):
    """The durable list of changes. Every method raises DatabaseUnavailable when it cannot be reached."""

    def transaction(self) -> AbstractAsyncContextManager[None]:
        """Let all that the block does with stores of the same database happen together, or not at all when it raises.

        Two such blocks never run at once, in the whole installation: what one reads stays so until it has ended.
        """

    async def add(self, entry: AuditEntry) -> None:
        """Write a line; it gets the next number."""

    async def page(self, question: AuditQuestion) -> Page[AuditEntry]:
        """Give lines, the newest first."""


class Note(Protocol):
    """Puts an event into the log, unless nothing is different."""

    async def __call__(self, event: AuditEvent) -> None:
        """Write it."""


class Audit:
    """The audit log in the hands of one actor."""

    def __init__(self, log: AuditLog, clock: Clock, actor: Actor) -> None:
        self._log = log
        self._clock = clock
        self._actor = actor

    @asynccontextmanager
    async def changing(self) -> AsyncGenerator[Note]:
        """Store what the block changes together with what it notes. What others are told of it, tell them afterwards.

        Raises:
            DatabaseUnavailable: nothing is changed.
        """
        async with self._log.transaction():
            yield self.note

    async def note(self, event: AuditEvent) -> None:
        """Write of a change that has been made elsewhere than in SQL."""
        if has_changes(event):
            await self._log.add(AuditEntry(time=self._clock.now(), actor=self._actor, event=event))

    async def page(self, question: AuditQuestion) -> Page[AuditEntry]:
        """Give a page of the log, the newest line first."""
        return await self._log.page(question)

    async def since(self, word: str) -> list[AuditEntry]:
        """Give all lines of a time like `7d`, or since a date, the oldest first; InvalidValue when it is neither."""
        start = parse_since(word, self._clock.now())
        found: list[AuditEntry] = []
        more = True
        while more:
            after = found[-1].number if found else None
            page = await self._log.page(AuditQuestion(limit=PAGE, after=after, start=start))
            found += page.items
            more = page.has_more
        return found[::-1]
