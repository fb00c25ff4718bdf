"""What the use cases need from where jobs, flights and remembered pictures are kept; part of gateway.service.ports.

A job's record is its reservation: QuotaStore.reserve attaches (when `claim.sought` is given) and takes in one step, and
QuotaStore.settle ends it. A position counts the pictures of a request from 0. Every method may raise QuotaUnavailable.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gateway.domain.flights import End, Follow, Hit, Receipt, Task
from gateway.domain.quota import Reservation


class NotLed(Exception):
    """Something would have to be made, and the claim lets nothing new begin (`sought.lead`). Nothing was taken."""


class TakenOver(Exception):
    """A picture was not sent, and is not this job's any more: it is to be attached anew, as others may make it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A job whose owner died after some of its pictures had been paid or ordered; from now on it is this replica's.

    `receipts` are by the position of the picture: to be fetched, unless `ends` tells how that picture ended. `tasks`
    are what was ordered last for a position, to be asked for without either. `sent` are the positions whose call had
    begun. `reservation` is to be settled with the line of its claim, made known.
    """

    reservation: Reservation
    receipts: Mapping[int, Receipt]
    ends: Mapping[int, End]
    sent: frozenset[int]
    tasks: Mapping[int, Task] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job of the installation that has not ended. `age` in seconds; `pictures` are those asked for.

    `fetched`: all that it makes is paid, and is being downloaded and stored.
    """

    job_id: str
    project_id: str
    key_id: str
    state: Literal["queued", "sent", "fetched"]
    owner: str
    age: int
    pictures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownJob:
    """What the record of a job says. `model` is the client's word for it, `end` that of its first picture.

    `end` is a withdrawal while there is none, and when nobody but its leader may be told why there is none.
    """

    model: str
    state: Literal["running", "ended", "abandoned"]
    end: End


class JobRecords(Protocol):
    """The records of jobs, by their ids: 10 minutes after the end of a job, a day when an Idempotency-Key names it."""

    async def find(self, project_id: str, job_id: str) -> KnownJob | None:
        """Give what is known of a job of a project; None when there is none."""


class FlightStore(Protocol):
    """What is known of the jobs that run, for all replicas."""

    def lapsed(self, reservation: Reservation) -> bool:
        """Tell, without asking, whether this replica may have been taken for dead since it reserved.

        Then others may go on with its jobs, and `sent` tells whether they do.
        """

    def sent(self, reservation: Reservation, index: int) -> asyncio.Future[bool]:
        """Note that the upstream call of a picture begins, whether or not anybody waits for it.

        False: this replica was taken for dead, and its job has ended or is another one's.
        """

    def submitted(self, reservation: Reservation, index: int, task: Task) -> asyncio.Future[bool]:
        """Keep what a picture was ordered as, before its result is asked for: who takes the job over goes on.

        It goes on whether or not anybody waits for it. False: as for `paid`.
        """

    def paid(self, reservation: Reservation, index: int, receipt: Receipt) -> asyncio.Future[bool]:
        """Keep what a paid call answered, before the picture is fetched, whether or not anybody waits for it.

        False: this replica was taken for dead and another one has taken the job over, to account for it. Who waits
        here may still be given the picture; this replica's settle changes nothing any more.
        """

    async def finish(self, reservation: Reservation, index: int, end: End) -> None:
        """Say how a picture ended before its job has: who follows it has it at once, and a request may find it."""

    async def vacate(self, reservation: Reservation) -> None:
        """Let another job run in the place of this one: nothing is left of it but the download of what is paid."""

    async def turn(self, reservation: Reservation) -> bool:
        """Wait until a job that stands in line has its place; an outage is waited out.

        False: its reservation has ended, since this replica was taken for dead.
        """

    async def follow(self, reservation: Reservation, part: Follow) -> End:
        """Wait until a picture that another job makes has ended; an outage is waited out, as long as clients may wait.

        A withdrawn end: its job has withdrawn or died. What is missing is to be attached anew, with a claim of its own
        (`sought.again`), while `reservation` is settled with what it has.
        """

    async def left(self, reservation: Reservation) -> None:
        """Note that the client of this job has gone; also after the job's end, so that a retry finds it."""

    async def waiting(self, reservation: Reservation) -> bool:
        """Tell whether a client waits for this job, its own or one whose job follows it, and nobody cancelled it."""

    async def forget(self, reservation: Reservation, hit: Hit) -> None:
        """Forget a remembered picture whose bytes are gone."""


class JobBoard(Protocol):
    """The operator's view of what runs and what is remembered."""

    async def jobs(self) -> list[RunningJob]:
        """Give what runs anywhere in the installation, the oldest first."""

    async def cancel(self, job_id: str) -> bool:
        """Ask a job's replica to drop what is not sent yet; False when no such job runs."""

    async def purge(self, project_id: str | None = None) -> int:
        """Forget the remembered pictures of a project, or all; the number of plans. What is in flight goes on."""
