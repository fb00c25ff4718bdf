"""How far the ledger is behind, and the end of patience with it (design.md section 6, "One line per job")."""

from collections.abc import Hashable

from gateway.domain.errors import LedgerBehind
from gateway.service.ports import MeteringObserver


class Backlog:
    """The lines that wait for the ledger, as last measured: those of each shard's stream, and those of this replica.

    Above `most` of them no new generation may begin. Asking costs no round trip.
    """

    def __init__(self, most: int, observer: MeteringObserver) -> None:
        self._most = most
        self._observer = observer
        self._parts: dict[Hashable, int] = {}
        self.lines = 0

    def of(self, part: Hashable) -> int:
        """Give what was last measured of a part."""
        return self._parts.get(part, 0)

    def note(self, part: Hashable, lines: int) -> None:
        """Take down how many lines wait in a part."""
        self.lines += lines - self.of(part)
        self._parts[part] = lines
        self._observer.ledger_backlog(self.lines)

    def refuse_when_full(self) -> None:
        """Raise LedgerBehind while too many lines wait."""
        if self.lines > self._most:
            raise LedgerBehind(
                f"{self.lines} usage records wait for the gateway's database, more than ledger.max_backlog "
                f"({self._most}) lets wait. Nothing was charged. The gateway's operator has to see to the database; "
                "when it takes records again, the gateway goes on by itself.",
            )
