"""What runs in the installation and what is remembered there, for its operator."""

import asyncio
import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

from gateway.adapters.redis.marks import Mark, Marks
from gateway.adapters.redis.names import CANCELS, Names
from gateway.adapters.redis.records import Record, numbered, read_record
from gateway.adapters.redis.replies import asked
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.quota import SHARDS, shard_of
from gateway.service.ports_flights import RunningJob

BATCH = 500  # plans that one step of a purge looks at
SECONDS = 5.0  # that a step may take


class RedisJobBoard:
    """The job board port."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._marks = Marks(scripts)

    async def jobs(self) -> list[RunningJob]:
        """Give what runs anywhere, the oldest first."""
        found = await asyncio.gather(*(self._jobs_of(Names(shard)) for shard in range(SHARDS)))
        return sorted(chain.from_iterable(found), key=lambda job: -job.age)

    async def cancel(self, job_id: str) -> bool:
        """Mark a job, wherever it is, and tell its replica."""
        mark = Mark("cancelled", "1", channel=CANCELS)
        marks = (self._marks.note(shard, job_id, mark, bytes) for shard in range(SHARDS))
        return b"done" in await asyncio.gather(*marks)

    async def purge(self, project_id: str | None = None) -> int:
        """Forget the remembered pictures of a project, or all."""
        if project_id is not None:
            return await self._purge(Names(shard_of(project_id)), f"{project_id}/")
        shards = range(SHARDS)
        everywhere = (*(Names(shard) for shard in shards), *(Names(shard, "c") for shard in shards))
        return sum([await self._purge(names, "") for names in everywhere])

    async def _purge(self, names: Names, prefix: str) -> int:
        """Go through the plans of a slot in batches, so that nobody waits long for the server."""
        cursor, forgotten = "0", 0
        some: int
        while True:
            step = self._scripts.run("purge", [names.of("results")], (prefix, cursor, BATCH), SECONDS)
            position, some = await asked(step)
            cursor, forgotten = position.decode(), forgotten + some
            if cursor == "0":
                return forgotten

    async def _jobs_of(self, names: Names) -> list[RunningJob]:
        owners = [owner.decode() for owner in await self._call("ZRANGE", names.of("owners"), 0, -1)]
        held = await asyncio.gather(*(self._call("SMEMBERS", names.of("held", owner)) for owner in owners))
        pairs = [(owner, job.decode()) for owner, jobs in zip(owners, held, strict=True) for job in jobs]
        found = await asyncio.gather(*(self._job(names, owner, job_id) for owner, job_id in pairs))
        return [job for job in found if job is not None]

    async def _job(self, names: Names, owner: str, job_id: str) -> RunningJob | None:
        key = names.of("reservation", job_id)
        record = await asked(read_record(self._scripts, key))
        return None if record is None else await self._describe(key, owner, record)

    async def _describe(self, key: str, owner: str, record: Record) -> RunningJob:
        claim, leads = record.reservation.claim, [lead.index for lead in record.reservation.leads]
        sent, paid, ends = [await asked(numbered(self._scripts, key, kind, leads)) for kind in ("sent", "paid", "end")]
        return RunningJob(
            job_id=claim.request_id,
            project_id=claim.project_id,
            key_id=claim.abandoned.key_id,
            state=_state(leads, sent, paid.keys() | ends.keys()),
            owner=owner,
            age=max(0, int(time.time_ns() / 1e9 - claim.abandoned.time.timestamp())),
            pictures=claim.pictures,
        )

    async def _call(self, *command: object) -> Any:  # noqa: ANN401 - a reply has the type that the command gives it
        return await asked(self._scripts.call(*command))


def _state(leads: Sequence[int], sent: dict[int, bytes], over: set[int]) -> Literal["queued", "sent", "fetched"]:
    """Say how far a job is; one that only follows is as if queued."""
    if leads and over.issuperset(leads):
        return "fetched"
    return "sent" if sent or over else "queued"
