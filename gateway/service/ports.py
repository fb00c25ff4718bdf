"""What the use cases need from the world; gateway.adapters implements each of these.

Of the upstream: ports_upstream.py; of slots: ports_slots.py; of pictures: picture_ports.py; of flights:
ports_flights.py; of keys and projects: ports_keys.py.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from gateway.domain.flights import Ending
from gateway.domain.image import ImagePlan, PaidPicture
from gateway.domain.quota import Calendar, Claim, Counts, Refusal, Reservation
from gateway.domain.records import record
from gateway.domain.slots import Park, Tended
from gateway.domain.upstream import Account, Fault
from gateway.domain.usage import Outcome, Tally, UsageEvent, Used

KNOWN_SECONDS = 600.0  # how long the quota store knows a request after its end


class Clock(Protocol):
    """Time, handed in."""

    def now(self) -> datetime:
        """The present moment in UTC."""

    def monotonic(self) -> float:
        """Seconds that never run back."""

    async def sleep(self, seconds: float) -> None: ...


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

    def waited(self, model: str, seconds: float) -> None:
        """A picture got its slot after so long."""

    def account_parked(self, account: Account, park: Park) -> None:
        """An account, or one key of it, is left alone."""

    def queue_looked_at(self, model: str, tended: Tended) -> None:
        """A model's queue stands so, over all replicas."""


@record(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is to be charged for a reservation.

    `since`: when that was first tried, by this replica's clock. `confirmed`: the store had it, and what is waited for
    is the ledger's line.
    """

    reservation: Reservation
    charged: int
    event: UsageEvent
    ending: Ending | None = None
    since: datetime | None = None
    confirmed: bool = False


class MeteringObserver(Protocol):
    """What the operator is told of settlements and the ledger. Nothing here may fail or wait."""

    def ledger_backlog(self, lines: int) -> None:
        """So many lines wait for the ledger now."""

    def settlement_unsaved(self, settlement: Settlement, reason: str) -> None:
        """Neither the quota store nor the disk took a settlement; it is in memory only."""

    def settlements_unsaved(self, count: int) -> None:
        """So many settlements are in memory only now."""

    def settlement_stuck(self, settlement: Settlement, reason: str) -> None:
        """A settlement was made, and the disk does not let go of it."""

    def ledger_reached(self, shard: int, ended: datetime | None) -> None:
        """The oldest line of a shard that waits for the ledger is of a job that ended then; None when none waits."""

    def outage(self, what: str, reason: str) -> None:
        """A part could not be reached."""

    def settlement_lost(self, settlement: Settlement) -> None:
        """The process ends, and nothing took the settlement: the operator has to write its line."""


class UsageObserver(Protocol):
    """What the operator is told of what was given, as the ledger's lines say it. Nothing here may fail or wait."""

    def attached(self, model: str, *, cached: int, joined: int) -> None:
        """So many pictures of a request are remembered ones, and so many are made for others."""

    def line_closed(self, line: UsageEvent) -> None:
        """A job has ended."""


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

        The line's time becomes that of the reservation. With `ending`, tell all who follow, remember what may be, and
        keep the ends for who repeats the request. What leads and has no end is withdrawn. It is idempotent for
        KNOWN_SECONDS after its end; later the ledger has to be asked before.

        Raises:
            QuotaUnavailable: no answer in time; repeat it later.
            QuotaEmptied: as above.
        """

    def assumed(self, claim: Claim) -> Reservation:
        """Say what a reserve without an answer would have taken from, so that the claim can be settled all the same."""

    async def release(self, claim: Claim) -> None:
        """Give everything back but the request, and keep a reserve that is still under way from taking anything.

        Raises:
            QuotaUnavailable: no answer in time; repeat it later.
        """

    async def now(self, shard: int) -> int:
        """Give the store's time in ms since 1970, by which windows are chosen; QuotaUnavailable as above."""

    async def refill(
        self,
        shard: int,
        calendar: Calendar,
        counts: Mapping[str, Counts],
        counted: Collection[str] = (),
        *,
        fresh: bool,
    ) -> None:
        """Give an emptied shard its counts back, by subject; QuotaUnavailable as above.

        `counted` are the requests of the last KNOWN_SECONDS that are in the counts: who settles one of them or takes it
        again changes nothing. Counts of a day that is over are not taken.

        Grants begin when the replicas had time to tell what they hold; at once when the store is `fresh`, so that
        nobody can hold anything.
        """

    async def losses(self) -> list[tuple[int, str]]:
        """Name the shards that are being refilled, each with the name of that refill. QuotaUnavailable as above."""

    def held(self, shard: int) -> list[Claim]:
        """Tell what this replica has not settled yet."""

    async def lost(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Give those of the last KNOWN_SECONDS that the store took and does not have; QuotaUnavailable as above."""

    async def take_again(self, claim: Claim) -> None:
        """Take what this replica holds and the store has lost, over a limit if need be; idempotent.

        What was noted of a job since comes back with it, so that it is rescued when its owner dies. QuotaUnavailable
        as above.
        """


class QuotaUnavailable(Exception):
    """The quota store did not answer within its deadline."""


class QuotaRestoring(Exception):
    """The quota store is being refilled; `wait` is the time in seconds until it grants again."""

    def __init__(self, wait: float) -> None:
        super().__init__(f"{wait:g} s")
        self.wait = wait


class QuotaEmptied(QuotaUnavailable):
    """The quota store has lost the counts of a shard."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"shard {shard} is empty")
        self.shard = shard


class Spool(Protocol):
    """Where settlements wait on disk while the quota store cannot be reached."""

    async def put(self, settlement: Settlement) -> None:
        """Keep a settlement; it survives the process and the machine's power. OSError when the disk refuses."""

    async def waiting(self) -> list[Settlement]:
        """Give what the store is not known to have, the oldest first."""

    async def confirmed(self, most: int) -> list[Settlement]:
        """Give some of what the store has and the ledger is not known to have: each once before any comes again."""

    async def remove(self, settlement: Settlement) -> None: ...


class Ledger(Protocol):
    """The durable list of what was done: one line per job."""

    async def write(self, events: Sequence[UsageEvent]) -> None:
        """Add lines, or improve those of the same job; idempotent.

        Raises:
            LedgerUnavailable: it cannot be written; some may be there.
            LinesRefused: it can never hold some of them; all others are there.
        """

    async def known(self, event_ids: Sequence[str]) -> Mapping[str, Outcome]:
        """Tell which lines are there, and their outcomes; LedgerUnavailable when it cannot be read."""

    async def used_since(self, start: datetime) -> list[Used]:
        """Sum what every key was charged for since a moment; LedgerUnavailable when it cannot be read."""

    async def tally(self, day: datetime, month: datetime, ended: datetime) -> Tally:
        """Sum since two moments, and name what is in the sums and ended after a third one, all as of one instant.

        LedgerUnavailable when it cannot be read.
        """


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

    async def refused(self, shard: int, event_ids: Sequence[str]) -> Collection[str]:
        """Name the jobs whose lines were ever put aside; QuotaUnavailable as above."""
