"""Waits for fields of jobs' records: one reader per job, however much of it is waited for in this process."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.adapters.redis.names import Names
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable

# Seconds between two looks: messages may be lost, so a look comes by itself as well.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a job's record says: the job's state (None: there is no record), and the field if it is there."""

    state: bytes | None
    value: bytes | None

    @property
    def final(self) -> bool:
        """Tell whether waiting any longer changes nothing."""
        return self.state != b"held" or self.value is not None


@dataclass(slots=True, eq=False)
class _Watch:
    """A job that is waited for."""

    waiters: dict[asyncio.Future[Seen], str] = field(default_factory=dict)  # with the name of the field
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    reader: asyncio.Task[None] | None = None


class Watches:
    """All jobs that this process waits for. An outage is waited out for `patience` seconds."""

    def __init__(self, scripts: Scripts, patience: float) -> None:
        self._scripts = scripts
        self._patience = patience
        self._jobs: dict[str, _Watch] = {}

    def heard(self, job_id: str) -> None:
        """Look at a job at once: something of it has ended."""
        if watch := self._jobs.get(job_id):
            watch.woken.set()

    async def final(self, shard: int, job_id: str, name: str) -> Seen:
        """Wait until a field of a job's record is there, or the job has ended; StoreUnavailable: see the class."""
        watch = self._jobs.setdefault(job_id, _Watch())
        waiter: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        watch.waiters[waiter] = name
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
        pause, time = FIRST_PAUSE, asyncio.get_running_loop().time
        answered = time()
        while True:
            watch.woken.clear()
            names = sorted(set(watch.waiters.values()))
            try:
                state, *values = await self._scripts.call("HMGET", key, "state", *names)
            except StoreUnavailable as failure:
                if time() - answered >= self._patience:
                    _give_up(watch, failure)
            else:
                answered = time()
                _tell(watch, state, dict(zip(names, values, strict=True)))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await watch.woken.wait()
            pause = min(pause * 1.5, LONGEST_PAUSE)


def _give_up(watch: _Watch, failure: StoreUnavailable) -> None:
    """Let all go without an answer."""
    for waiter in tuple(watch.waiters):
        if not waiter.done():
            waiter.set_exception(StoreUnavailable(str(failure)))


def _tell(watch: _Watch, state: bytes | None, values: dict[str, bytes | None]) -> None:
    """Let those go on whose field is there; who came after the question was asked is answered by the next."""
    for waiter, name in tuple(watch.waiters.items()):
        if name in values and not waiter.done():
            seen = Seen(state, values[name])
            if seen.final:
                waiter.set_result(seen)
