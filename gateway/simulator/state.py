"""Everything that a reset forgets: counts, calls, pictures, faults, jobs and the slots that are taken."""

import asyncio
import itertools
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.simulator.calls import Call
from gateway.simulator.errors import Finding, Refusal
from gateway.simulator.gallery import RECORDS, Gallery, Picture
from gateway.simulator.orders import Order
from gateway.simulator.switchboard import Switchboard


class Stats(msgspec.Struct):
    """Calls: every POST to the generation paths. Images: pictures made. In flight: pictures being made."""

    calls: int = 0
    images: int = 0
    in_flight: int = 0
    max_in_flight: int = 0

    @contextmanager
    def making(self) -> Iterator[None]:
        """Counts a picture as in flight."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A call that passed every check: what to make for whom, and how it goes.

    `refusal` is what the generation ends in instead of a picture, `finding` what the content filter adds to a picture.
    """

    call: Call
    order: Order
    key_id: str
    seconds: float
    finding: Finding | None = None
    refusal: Refusal | None = None


@dataclass(slots=True, kw_only=True)
class Job:
    """An asynchronous generation; its next `polls_left` polls answer PROCESSING whatever is ready."""

    ticket: Ticket
    task: asyncio.Task[Picture | Refusal]
    polls_left: int = 0


class State:
    """One life between two resets. What was in flight at a reset ends in the life in which it began."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.calls: deque[dict[str, Any]] = deque(maxlen=RECORDS)
        self.gallery = Gallery()
        self.switchboard = Switchboard()
        self.slots: Counter[tuple[str, str]] = Counter()  # by key id and model (section 4)
        self.serials = itertools.count(1)
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def see(self, call: Call) -> None:
        """Counts and remembers a call, whatever becomes of it."""
        self.stats.calls += 1
        self.calls.append(call.record())

    def keep_job(self, job: Job) -> None:
        """Keeps a job for its polls, and lets go of the oldest."""
        self._jobs[job.ticket.call.id] = job
        if len(self._jobs) > RECORDS:
            self._jobs.popitem(last=False)

    def find_job(self, job_id: str, key_id: str) -> Job | None:
        """The job of that id, for the key that submitted it ([INF], section 2)."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.ticket.key_id == key_id else None
