"""Waits for jobs to end: one reader per job, however many pictures of it are waited for in this process."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.adapters.redis.names import Names
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable

# Seconds between two looks: messages may be lost, so a look comes by itself as well.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a job's record says of a picture: the job's state (None: there is no record), and the end if it is there."""

    state: bytes | None
    end: bytes | None

    @property
    def final(self) -> bool:
        """Tell whether waiting any longer changes nothing."""
        return self.state != b"held" or self.end is not None


@dataclass(slots=True, eq=False)
class _Watch:
    """A job that is waited for."""

    waiters: dict[asyncio.Future[Seen], int] = field(default_factory=dict)  # with the position of the picture
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    reader: asyncio.Task[None] | None = None


class Watches:
    """All jobs that this process waits for."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._jobs: dict[str, _Watch] = {}

    def heard(self, job_id: str) -> None:
        """Look at a job at once: something of it has ended."""
        if watch := self._jobs.get(job_id):
            watch.woken.set()

    async def final(self, shard: int, job_id: str, index: int) -> Seen:
        """Wait until a picture of a job has ended, or the job itself; an outage is waited out."""
        watch = self._jobs.setdefault(job_id, _Watch())
        waiter: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        watch.waiters[waiter] = index
        watch.woken.set()
        if watch.reader is None:
            watch.reader = asyncio.create_task(self._read(Names(shard).of("reservation", job_id), watch))
        try:
            return await waiter
        finally:
            watch.waiters.pop(waiter, None)
            if not watch.waiters:
                watch.reader.cancel()
                self._forget(job_id, watch)

    def _forget(self, job_id: str, watch: _Watch) -> None:
        if self._jobs.get(job_id) is watch:
            del self._jobs[job_id]

    async def _read(self, key: str, watch: _Watch) -> None:
        """Look until nobody waits any more."""
        pause = FIRST_PAUSE
        while True:
            watch.woken.clear()
            positions = sorted(set(watch.waiters.values()))
            with suppress(StoreUnavailable):
                state, *ends = await self._scripts.call("HMGET", key, "state", *(f"end:{index}" for index in positions))
                _tell(watch, state, dict(zip(positions, ends, strict=True)))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await watch.woken.wait()
            pause = min(pause * 1.5, LONGEST_PAUSE)


def _tell(watch: _Watch, state: bytes | None, ends: dict[int, bytes | None]) -> None:
    """Let those go on whose picture has ended; who came after the question was asked is answered by the next."""
    for waiter, index in tuple(watch.waiters.items()):
        if index in ends and not waiter.done():
            seen = Seen(state, ends[index])
            if seen.final:
                waiter.set_result(seen)
