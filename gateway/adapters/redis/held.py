"""What this replica holds in the store, so that it can be written down again when the store was lost."""

from dataclasses import dataclass, field

from gateway.domain.quota import Claim, shard_of


@dataclass(slots=True)
class Held:
    """A reservation that is not settled, asked for at `began` by the monotonic clock.

    `first` is the position of the first picture that it leads.
    `notes` are the fields of its record that were noted since: what was sent and paid, and how pictures ended.
    """

    claim: Claim
    first: int
    began: float
    notes: dict[str, str] = field(default_factory=dict)


class Holdings:
    """All reservations of this replica that are not settled, by their request ids."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        """Count them."""
        return len(self._held)

    def take(self, claim: Claim, first: int, began: float) -> None:
        """Remember what was reserved, until it is dropped."""
        self._held[claim.request_id] = Held(claim, first, began)

    def drop(self, request_id: str) -> None:
        """Forget what was settled or released."""
        self._held.pop(request_id, None)

    def note(self, request_id: str, name: str, value: str) -> None:
        """Remember a field of a record; an empty value removes it."""
        if held := self._held.get(request_id):
            held.notes[name] = value
            if not value:
                del held.notes[name]

    def get(self, request_id: str) -> Held | None:
        """Give what is held under a request id."""
        return self._held.get(request_id)

    def of(self, shard: int) -> list[Claim]:
        """Give the claims of what is held in one shard."""
        return [held.claim for held in self._held.values() if shard_of(held.claim.project_id) == shard]
