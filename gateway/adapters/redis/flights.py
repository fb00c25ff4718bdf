"""Flights in Redis: what is noted in the records of running jobs, and how others wait for them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from gateway.adapters.redis.held import Holdings
from gateway.adapters.redis.lease import Lease
from gateway.adapters.redis.marks import Mark, Marks
from gateway.adapters.redis.names import JOBS, Names
from gateway.adapters.redis.plans import Place, SharedPlans, encode_told, place_of, told_of
from gateway.adapters.redis.replies import asked, decode_end
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.adapters.redis.watches import Watches
from gateway.domain.flights import WITHDRAWN, End, Ending, Follow, Hit, Receipt, Task
from gateway.domain.quota import Reservation, shard_of
from gateway.service.ports import QuotaUnavailable

SECONDS = 5.0  # how long an answer is waited for: all of this is beside the hot path
# A job claims its flights in the slot that all projects share before its record is there: so long a record may lack.
CLAIM_SECONDS, CLAIM_PAUSE = 10.0, 0.2
LOST_PAUSE = 0.2  # between two looks for a record that was lost


class RedisFlights:
    """The flight store port.

    `heard` is to be told of every id on the channel of jobs, `drain` to be waited for before the client is closed;
    `holdings` is told what is noted. `lease`: this replica's. `patience`: seconds for which an outage is waited out by
    who follows.
    """

    def __init__(self, scripts: Scripts, holdings: Holdings, lease: Lease, *, patience: float) -> None:
        self._scripts = scripts
        self._holdings = holdings
        self._lease = lease
        self._shared = SharedPlans(scripts)
        self._marks = Marks(scripts)
        self._watches = Watches(scripts, patience)
        self.heard = self._watches.heard
        self.drain = self._marks.drain

    def lapsed(self, reservation: Reservation) -> bool:
        """Tell whether this replica may have been taken for dead since it reserved."""
        held = self._holdings.get(reservation.claim.request_id)
        return held is not None and not self._lease.covers(held.began)

    def sent(self, reservation: Reservation, index: int) -> asyncio.Future[bool]:
        """Note that the upstream call of a picture begins; False when the job is not this replica's any more."""
        return self._mark(reservation, f"sent:{index}", "1", _is_held)

    def submitted(self, reservation: Reservation, index: int, task: Task) -> asyncio.Future[bool]:
        """Keep what a picture was ordered as."""
        return self._mark(reservation, f"task:{index}", msgspec.json.encode(task).decode(), _is_ours)

    def paid(self, reservation: Reservation, index: int, receipt: Receipt) -> asyncio.Future[bool]:
        """Keep what a paid call answered; False when another replica has taken the job over."""
        return self._mark(reservation, f"paid:{index}", msgspec.json.encode(receipt).decode(), _is_ours)

    async def finish(self, reservation: Reservation, index: int, end: End) -> None:
        """Tell how a picture ended before its job has."""
        told = told_of(reservation, Ending(ends={index: end}), (index,))
        if told is None:
            return
        request_id, place = reservation.claim.request_id, place_of(reservation.claim)
        for position, text, _ in told.ends:
            self._holdings.note(request_id, f"end:{position}", text)
        home = place.at_home()
        keys = [_record(reservation), home.results, home.flights, home.index, home.names.of("clock")]
        arguments = (request_id, reservation.fence, encode_told(told, home), JOBS)
        if await self._run("finish", keys, arguments) and place.shared:
            await asked(self._shared.land(request_id, place, told))

    async def vacate(self, reservation: Reservation) -> None:
        """Give the place of a job back of which nothing is left but downloads."""
        claim, names = reservation.claim, place_of(reservation.claim).home
        self._holdings.note(claim.request_id, "vacated", "1")
        keys = [_record(reservation), names.of("waiting", claim.project_id)]
        keys += (names.of("running", subject.name) for subject in claim.subjects)
        await self._run("vacate", keys, (claim.request_id, reservation.fence, JOBS))

    async def turn(self, reservation: Reservation) -> bool:
        """Wait for a job's place; a record that was lost with the store comes back with one."""
        shard, job_id = place_of(reservation.claim).home.shard, reservation.claim.request_id
        while True:
            with suppress(StoreUnavailable):  # whoever stands in line has a patience of its own
                seen = await self._watches.final(shard, job_id, "turn")
                if seen.state is not None:
                    return seen.state == b"held"
            await asyncio.sleep(LOST_PAUSE)

    async def follow(self, reservation: Reservation, part: Follow) -> End:
        """Wait until a picture that another job makes has ended."""
        place = place_of(reservation.claim)
        if place.shared:
            await self._announce(reservation, part)
        deadline = asyncio.get_running_loop().time() + CLAIM_SECONDS
        while True:
            seen = await asked(self._watches.final(part.shard, part.job_id, f"end:{part.index}"))
            claimed = seen.state is None and place.shared and asyncio.get_running_loop().time() < deadline
            if not claimed or not await self._flies(place, part):
                break
            await asyncio.sleep(CLAIM_PAUSE)
        if seen.state != b"held":
            await self._tidy(place, part)
        return WITHDRAWN if seen.value is None else decode_end(seen.value)

    async def left(self, reservation: Reservation) -> None:
        """Note that the client of this job has gone."""
        await self._mark(reservation, "left", "1", _is_ours, ended=True)

    async def waiting(self, reservation: Reservation) -> bool:
        """Tell whether a client waits for this job, or for one that follows it."""
        state, left, cancelled, *followers = await self._run("waiting", [_record(reservation)], ())
        if cancelled:
            return False
        return state == b"" or not left or await self._any_waits(followers)

    async def forget(self, reservation: Reservation, hit: Hit) -> None:
        """Forget a remembered picture."""
        await asked(self._scripts.call("HDEL", place_of(reservation.claim).results, hit.variant))

    async def _any_waits(self, followers: Sequence[Any]) -> bool:
        """Look at the jobs that follow another, and at those that follow them."""
        for job, shard in zip(followers[::2], followers[1::2], strict=True):
            record = Names(shard).of("reservation", job.decode())
            state, left, cancelled, *others = await self._run("waiting", [record], ())
            if state == b"held" and not cancelled and (not left or await self._any_waits(others)):
                return True
        return False

    async def _announce(self, reservation: Reservation, part: Follow) -> None:
        """Note in the record of a job in another slot that it is waited for."""
        shard = place_of(reservation.claim).home.shard
        with suppress(QuotaUnavailable):
            await self._marks.note(part.shard, part.job_id, Mark(f"w:{reservation.claim.request_id}", shard), bytes)

    async def _flies(self, place: Place, part: Follow) -> bool:
        """Tell whether a flight is claimed, as far as can be seen."""
        with suppress(StoreUnavailable):
            return bool(await self._scripts.call("HEXISTS", place.flights, part.variant))
        return True

    async def _tidy(self, place: Place, part: Follow) -> None:
        """Take a flight away whose job has ended: its end was lost, and nobody is to follow it again."""
        with suppress(StoreUnavailable):
            await self._scripts.call("HDEL", place.flights, part.variant)

    def _mark(
        self,
        reservation: Reservation,
        name: str,
        value: str,
        read: Callable[[bytes], bool],
        *,
        ended: bool = False,
    ) -> asyncio.Future[bool]:
        job_id, shard = reservation.claim.request_id, shard_of(reservation.claim.project_id)
        self._holdings.note(job_id, name, value)
        return self._marks.note(shard, job_id, Mark(name, value, reservation.fence, ended), read)

    async def _run(self, name: str, keys: Sequence[str], arguments: Sequence[object]) -> Any:  # noqa: ANN401 - a reply
        return await asked(self._scripts.run(name, keys, arguments, SECONDS))


def _is_ours(word: bytes) -> bool:
    return word != b"fenced"


def _is_held(word: bytes) -> bool:
    return word not in {b"ended", b"fenced"}


def _record(reservation: Reservation) -> str:
    return place_of(reservation.claim).home.of("reservation", reservation.claim.request_id)
