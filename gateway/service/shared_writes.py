"""Lines of all who have some at a time go into the ledger with one write."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.usage import UsageEvent
from gateway.service.ports import Ledger, LedgerUnavailable, LinesRefused

MOST = 1000  # lines in a write, and a share more: they are prepared on the event loop, in 2 ms


@dataclass(slots=True, eq=False)
class _Share:
    """The lines of one who waits, and what became of them."""

    events: Sequence[UsageEvent]
    refused: Mapping[str, str] | None = None
    failure: LedgerUnavailable | None = None

    @property
    def waits(self) -> bool:
        return self.refused is None and self.failure is None


class SharedWrites:
    """Writes to the ledger, one at a time; who comes meanwhile has part in the next.

    A transaction costs 2 ms of CPU and a line 0.01: shards with a line or two each would pay a transaction for each.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._writing = asyncio.Lock()
        self._shares: list[_Share] = []  # in the order in which they get the lock

    async def write(self, events: Sequence[UsageEvent]) -> Mapping[str, str]:
        """Write lines; give those that the ledger can never hold, of others too, with the reasons.

        Raises:
            LedgerUnavailable: some may be there.
        """
        share = _Share(events)
        self._shares.append(share)
        try:
            async with self._writing:
                if share.waits:
                    await asyncio.sleep(0)  # who was woken by the same answer of the store comes along
                    await self._write_next()
        finally:
            self._shares.remove(share)
        if share.failure is not None:
            raise share.failure
        return share.refused or {}

    async def _write_next(self) -> None:
        """Write the shares that wait, up to about MOST lines; who is cancelled meanwhile leaves them to the next."""
        shares = [*_first(MOST, (share for share in self._shares if share.waits))]
        try:
            await self._ledger.write([event for share in shares for event in share.events])
        except LinesRefused as refused:
            _end(shares, refused.reasons)
        except LedgerUnavailable as failure:
            for share in shares:
                share.failure = failure
        else:
            _end(shares, {})


def _end(shares: Iterable[_Share], refused: Mapping[str, str]) -> None:
    for share in shares:
        share.refused = refused


def _first(most: int, shares: Iterable[_Share]) -> Iterable[_Share]:
    """Give shares until so many lines are together."""
    lines = 0
    for share in shares:
        if lines >= most:
            return
        lines += len(share.events)
        yield share
