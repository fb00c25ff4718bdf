"""What the use cases need from the world; gateway.adapters implements each of these. Of pictures: picture_ports.py."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain.flights import Ending
from gateway.domain.image import ImagePlan, PaidPicture
from gateway.domain.keys import StoredKey
from gateway.domain.projects import Project
from gateway.domain.quota import Calendar, Claim, Counts, Refusal, Reservation
from gateway.domain.terms import Changes
from gateway.domain.upstream import Account, CallFailure, Fault
from gateway.domain.usage import UsageEvent, Used


class Clock(Protocol):
    """Time, handed in."""

    def now(self) -> datetime:
        """The present moment in UTC."""

    def monotonic(self) -> float:
        """Seconds that never run back."""

    async def sleep(self, seconds: float) -> None: ...


class Upstream(Protocol):
    """One call to an account makes one picture (glm-image-api.md section 1)."""

    async def make(self, account: Account, plan: ImagePlan) -> PaidPicture:
        """Make and pay one picture.

        Raises:
            CallFailed: the upstream refused, or its answer was cut.
            UpstreamUnreachable: nothing was sent.
        """


class CallFailed(Exception):
    """A call that gave no picture, with what is known of the reason."""

    def __init__(self, failure: CallFailure) -> None:
        super().__init__(f"{failure.fault.name} (code {failure.code!r}, status {failure.status})")
        self.failure = failure


class KeyStore(Protocol):
    """The durable list of keys. Every method raises DatabaseUnavailable when it cannot be reached."""

    async def get(self, key_id: str) -> StoredKey | None: ...

    async def add(self, key: StoredKey) -> None:
        """Store a new key; NameTaken when a key of its project that is not revoked has its name."""

    async def list(self, project_id: str | None = None) -> list[StoredKey]:
        """Give all keys, or those of a project, oldest first."""

    async def change(self, key_id: str, changes: Changes) -> bool:
        """Set the named fields in one step; False when there is no key of this id, NameTaken as above."""

    async def replace_secret(self, key_id: str, digest: bytes, last_four: str, old_until: datetime | None) -> bool:
        """Exchange the secret; the old one opens until `old_until`. False when no such key is in use."""

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke a key; False when there is none of this id. Revoking twice keeps the first time."""

    async def touch(self, used: Mapping[str, datetime]) -> None:
        """Note when keys were last used; times do not run back."""


class ProjectStore(Protocol):
    """The durable list of projects; the default one is in it from the start. Raises as KeyStore does."""

    async def find(self, id_or_name: str) -> Project | None: ...

    async def add(self, project: Project) -> None:
        """Store a new project; NameTaken when there is one of its name."""

    async def list(self) -> list[Project]:
        """Give all projects, oldest first."""

    async def change(self, project_id: str, changes: Changes) -> bool:
        """Set the named fields in one step; False when there is no project of this id, NameTaken as above."""

    async def archive(self, project_id: str, at: datetime) -> bool:
        """Archive a project; False when there is none of this id. Archiving twice keeps the first time."""


class Announcer(Protocol):
    """The way to every running gateway."""

    async def announce(self, subject_id: str) -> None:
        """Say that a key or project has changed. Never fails: who is not told notices by itself within 30 seconds."""


class Observer(Protocol):
    """What the operator is told: metrics and log events. Nothing here may fail or wait."""

    def call_failed(self, account: Account, plan: ImagePlan, fault: Fault, detail: str) -> None: ...

    def picture_paid(self, account: Account, plan: ImagePlan, seconds: float) -> None: ...

    def fetch_failed(self, paid: PaidPicture, reason: str, *, given_up: bool) -> None: ...

    def picture_delivered(self, plan: ImagePlan) -> None: ...

    def store_failed(self, operation: str, reason: str) -> None:
        """The store of pictures could not do something: put, read, convert, probe, sweep."""

    def queued(self, change: int) -> None:
        """A picture entered (1) or left (-1) the wait for a slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is to be charged for a reservation."""

    reservation: Reservation
    charged: int
    event: UsageEvent
    ending: Ending | None = None


class MeteringObserver(Protocol):
    """What the operator is told of settlements and the ledger. Nothing here may fail or wait."""

    def ledger_backlog(self, lines: int) -> None:
        """So many lines wait for the ledger now."""

    def settlement_unsaved(self, settlement: Settlement, reason: str) -> None:
        """Neither the quota store nor the disk took a settlement; it is in memory only."""

    def settlements_unsaved(self, count: int) -> None:
        """So many settlements are in memory only now."""

    def settlement_lost(self, settlement: Settlement) -> None:
        """The process ends, and nothing took the settlement: the operator has to write its line."""


class QuotaStore(Protocol):
    """Where limits are counted, for all replicas."""

    async def reserve(self, claim: Claim) -> Reservation | Refusal:
        """Take a request, its pictures and their price from all windows, or nothing. Idempotent per request id.

        With `claim.sought`, attach first: to the job that the request repeats, to remembered pictures, to those in
        flight; take only what is left to be made. When nothing has to be waited for, settle in the same step.

        Raises:
            QuotaUnavailable: no answer in time; something may have been taken, so release must follow.
            QuotaEmptied: the store has lost its counts and must be refilled first.
            IdempotencyKeyReused: the key came with another body before. Nothing was taken.
            NotLed: as ports_flights says.
        """

    async def settle(
        self, reservation: Reservation, charged: int, event: UsageEvent, ending: Ending | None = None
    ) -> None:
        """Charge `charged` pictures, give the others back, append the event, in one step. Idempotent.

        With `ending`, tell all who follow, remember what may be, and keep the ends for who repeats the request. What
        leads and has no end is withdrawn.

        Raises:
            QuotaUnavailable: no answer in time; repeat it later.
        """

    def assumed(self, claim: Claim) -> Reservation:
        """Say what a reserve without an answer would have taken from, so that the claim can be settled all the same."""

    async def release(self, claim: Claim) -> None:
        """Give everything back but the request, and keep a reserve that is still under way from taking anything.

        Raises:
            QuotaUnavailable: no answer in time; repeat it later.
        """

    async def refill(self, shard: int, calendar: Calendar, counts: Mapping[str, Counts], *, fresh: bool) -> None:
        """Give an emptied shard its counts back, by subject; QuotaUnavailable as above.

        Grants begin when the replicas had time to tell what they hold; at once when the store is `fresh`, so that
        nobody can hold anything.
        """

    async def losses(self) -> list[tuple[int, str]]:
        """Name the shards that are being refilled, each with the name of that refill. QuotaUnavailable as above."""

    def held(self, shard: int) -> tuple[list[Claim], list[Settlement]]:
        """Tell what this replica has not settled yet, and what it settled so lately that the ledger may lack it."""

    async def take_again(self, claim: Claim) -> None:
        """Take what was lost with the store, over a limit if need be; idempotent. QuotaUnavailable as above."""


class QuotaUnavailable(Exception):
    """The quota store did not answer within its deadline."""


class QuotaRestoring(Exception):
    """The quota store is being refilled; `wait` is the time in seconds until it grants again."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"{wait:g} s")
        self.wait = wait


class QuotaEmptied(Exception):
    """The quota store has lost the counts of a shard."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"shard {shard} is empty")
        self.shard = shard


class Spool(Protocol):
    """Where settlements wait on disk while the quota store cannot be reached."""

    async def put(self, settlement: Settlement) -> None:
        """Keep a settlement; it survives the process and the machine's power. OSError when the disk refuses."""

    async def waiting(self) -> list[Settlement]: ...

    async def remove(self, settlement: Settlement) -> None: ...


class Ledger(Protocol):
    """The durable list of what was done: one line per job."""

    async def write(self, events: Sequence[UsageEvent]) -> None:
        """Add lines, or improve those of the same job; idempotent.

        Raises:
            LedgerUnavailable: it cannot be written; some may be there.
            LinesRefused: it can never hold some of them; all others are there.
        """

    async def known(self, event_ids: Sequence[str]) -> set[str]:
        """Tell which lines are there; LedgerUnavailable when it cannot be read."""

    async def used_since(self, start: datetime) -> list[Used]:
        """Sum what every key was charged for since a moment; LedgerUnavailable when it cannot be read."""


class LedgerUnavailable(Exception):
    """The ledger's database cannot be reached."""


class LinesRefused(Exception):
    """Lines that the ledger can never hold, by their event ids, each with the reason."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__(f"{len(reasons)} lines")
        self.reasons = reasons


class Turn(Protocol):
    """Whether it is this replica's turn; it may end when it could not be renewed in time."""

    @property
    def ours(self) -> bool: ...


class UsageStream(Protocol):
    """The lines that were settled and are not in the ledger yet, by shard."""

    async def backlog(self, shard: int) -> int:
        """Count the lines that wait; QuotaUnavailable when there is no answer."""

    def turn(self, shard: int) -> AbstractAsyncContextManager[Turn]:
        """Be the only replica that carries over this shard's lines until the block ends, if no other is.

        A turn is renewed meanwhile; that of a replica that died ends by itself. QuotaUnavailable as above.
        """

    async def pending(self, shard: int) -> list[tuple[str, UsageEvent]]:
        """Give the oldest lines with their positions; QuotaUnavailable when there is no answer."""

    async def remove(self, shard: int, positions: Sequence[str]) -> None:
        """Forget lines that the ledger has; QuotaUnavailable when there is no answer."""

    async def put_aside(self, shard: int, reasons: Mapping[str, str]) -> None:
        """Keep lines that the ledger can never hold apart for the operator, and tell it; QuotaUnavailable as above."""
