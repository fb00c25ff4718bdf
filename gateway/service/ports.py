"""What the use cases need from the world; gateway.adapters implements each of these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gateway.domain.image import ImagePlan, PaidPicture, PictureBytes
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


class PictureSource(Protocol):
    """Where the upstream leaves the bytes of what it made."""

    async def fetch(self, url: str) -> PictureBytes:
        """Download a picture.

        Raises:
            FetchFailed: the bytes could not be had this time.
        """


class FetchFailed(Exception):
    """A download that gave no picture; `final` when another try cannot succeed."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


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

    def queued(self, change: int) -> None:
        """A picture entered (1) or left (-1) the wait for a slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is to be charged for a reservation."""

    reservation: Reservation
    charged: int
    event: UsageEvent


class QuotaStore(Protocol):
    """Where limits are counted, for all replicas."""

    async def reserve(self, claim: Claim) -> Reservation | Refusal:
        """Take a request, its pictures and their price from all windows, or nothing. Idempotent per request id.

        Raises:
            QuotaUnavailable: no answer in time; something may have been taken, so release must follow.
            QuotaEmptied: the store has lost its counts and must be refilled first.
        """

    async def settle(self, reservation: Reservation, charged: int, event: UsageEvent) -> None:
        """Charge `charged` pictures, give the others back, append the event, in one step. Idempotent.

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

    async def put(self, reservation: Reservation, charged: int, event: UsageEvent) -> None:
        """Keep a settlement; it survives the process and the machine's power."""

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


class UsageStream(Protocol):
    """The lines that were settled and are not in the ledger yet, by shard."""

    async def pending(self, shard: int) -> list[tuple[str, UsageEvent]]:
        """Give the oldest lines with their positions; QuotaUnavailable when there is no answer."""

    async def remove(self, shard: int, positions: Sequence[str]) -> None:
        """Forget lines that the ledger has; QuotaUnavailable when there is no answer."""

    async def put_aside(self, shard: int, reasons: Mapping[str, str]) -> None:
        """Keep lines that the ledger can never hold apart for the operator, and tell it; QuotaUnavailable as above."""
