"""Jobs by their ids, for who has none of what they were made of."""

import re
from typing import Literal

from gateway.adapters.redis.names import Names, decode_event
from gateway.adapters.redis.replies import asked, decode_end
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.quota import shard_of
from gateway.service.ports_flights import JobRecords, KnownJob

_ID = re.compile("[0-9A-Za-z_]{1,64}", re.ASCII)  # of a request; nothing else may become a key's name
_STATES: dict[bytes | None, Literal["running", "ended", "abandoned"]] = {
    b"held": "running",
    b"settled": "ended",
    b"abandoned": "abandoned",
}


class RedisJobRecords(JobRecords):
    """The port of records."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def find(self, project_id: str, job_id: str) -> KnownJob | None:
        """Read a record, in one command."""
        if _ID.fullmatch(job_id) is None:
            return None
        key = Names(shard_of(project_id)).of("reservation", job_id)
        state, record, end = await asked(self._scripts.call("HMGET", key, "state", "record", "end:0"))
        if state not in _STATES or record is None:
            return None
        line = decode_event(record)
        if line.project_id != project_id:
            return None
        return KnownJob(model=line.requested_model, state=_STATES[state], end=decode_end(end or b""))
