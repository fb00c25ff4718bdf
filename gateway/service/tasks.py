"""Jobs that are asked for by their ids: what GLM's asynchronous path calls a task."""

from dataclasses import dataclass, replace

from gateway.domain.asked import Asked
from gateway.domain.errors import GatewayError, OutcomeUnknown, QueueTimedOut, QuotaStoreDown, TaskNotFound
from gateway.domain.image import Picture
from gateway.domain.keys import Caller
from gateway.service.ports import QuotaUnavailable
from gateway.service.ports_flights import JobRecords, KnownJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """How far a task of one picture is; neither `picture` nor `failure` while it is made."""

    model: str
    picture: Picture | None = None
    failure: GatewayError | None = None


class Tasks:
    """Finds tasks, whichever replica runs or ran them."""

    def __init__(self, records: JobRecords) -> None:
        self._records = records

    async def __call__(self, caller: Caller, task_id: str) -> Task:
        """Look once; nothing is counted or charged.

        Raises:
            TaskNotFound: no job of the caller's project has this id, or it ended too long ago.
            QuotaStoreDown: that cannot be told now.
        """
        try:
            job = await self._records.find(caller.project_id, task_id)
        except QuotaUnavailable as away:
            raise QuotaStoreDown("Tasks cannot be looked up now. They go on; ask again after a short wait.") from away
        if job is None:
            raise TaskNotFound(
                "id is invalid: this project has no such task. Results can be asked for 24 hours after their end.",
                param="id",
            )
        return _task(job)


def submitted(asked: Asked) -> Asked:
    """Let a job be found by its id: under an Idempotency-Key, the client's or its own id, its record is kept a day."""
    return replace(asked, idempotency_key=asked.idempotency_key or asked.request_id)


def _task(job: KnownJob) -> Task:
    """Read a record. While a job runs, a failed download is tried again."""
    if job.end.picture is not None:
        return Task(model=job.model, picture=job.end.picture)
    if job.state == "running":
        return Task(model=job.model)
    if job.end.failure is not None:
        return Task(model=job.model, failure=job.end.failure.error())
    if job.state == "abandoned":
        return Task(
            model=job.model,
            failure=OutcomeUnknown(
                "The gateway's replica that ran the task died before the picture was there, so it may have been made. "
                "Submit it again if you want another try.",
            ),
        )
    return Task(
        model=job.model,
        failure=QueueTimedOut(
            "The task was given up before its picture was sent for: it waited too long, the gateway stopped, or its "
            "operator cancelled it. Nothing was charged; submit it again.",
        ),
    )
