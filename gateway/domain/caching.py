"""The name of a plan, and what a request looks for before anything is made for it. Pure."""

import hashlib
from dataclasses import replace
from json.encoder import encode_basestring_ascii as quoted
from typing import Literal, Self

from gateway.domain.image import ImagePlan
from gateway.domain.records import record

Scope = Literal["key", "project", "shared", "off"]
REPEATED = 86_400.0  # seconds in which a job may be repeated
# Seconds for which a URL of the upstream's is given again: none was seen that lives for less than 24 hours
# (glm-image-api.md section 6), and who gets it has one hour left, as with OpenAI's.
URL_FRESH = 82_800.0


def plan_name(plan: ImagePlan) -> str:
    """Name what would be sent upstream, in 64 hex digits; the end user changes no picture and is left out."""
    words = [*map(quoted, (plan.model, plan.prompt, plan.size, plan.quality)), "true" if plan.watermark else "false"]
    return hashlib.sha256(f"[{', '.join(words)}]".encode()).hexdigest()  # as json.dumps, in a third of its time


def repeated_name(job_id: str, position: int) -> str:
    """Name one picture of a job like a plan of its own: who repeats the job finds it there, and nobody else."""
    return hashlib.sha256(f"{job_id}.{position}".encode()).hexdigest()


@record(frozen=True, slots=True, kw_only=True)
class Sought:
    """What a request looks for before it takes pictures from the limits. Times are seconds; digests are hex.

    `plan` is its name, empty when the cache is off: then nothing is looked up, and only retries find their job.
    `max_entries` is how many plans each of the 64 shards remembers at most; those of a project lie in one of them.
    What this request makes is remembered for `lifetime`; what it finds may be as old as `fresh`, and as `max_age`.
    `read` lets remembered pictures be used, `join` those in flight, and `remember` keeps what this request makes.
    `lead` is off while the replica shuts down: what exists is attached to, and nothing new is begun.
    `distinct` is for clients that turn n=k into k parallel calls: each of them gets another picture.
    `body` is the request body's digest, under which a retry finds its job; empty lists the job nowhere.
    `retry` says that the client's SDK sent the request before, `again` that this gateway counted it before.
    `exclude` are variants that the same answer has already, besides those of jobs of the same root, the id before
    its first `~`.
    """

    plan: str
    scope: Scope
    read: bool = True
    join: bool = True
    remember: bool = True
    max_age: float | None = None
    lifetime: float = 86_400.0
    fresh: float = 86_400.0
    max_entries: int = 200_000
    lead: bool = True
    distinct: bool = False
    body: str = ""
    retry: bool = False
    idempotency_key: str = ""
    again: bool = False
    exclude: tuple[str, ...] = ()

    @property
    def joins(self) -> bool:
        """Tell whether equal requests make one picture while it is in flight."""
        return bool(self.plan) and self.join

    @property
    def lasts(self) -> bool:
        """Tell whether what is made is found by the next equal request, however late it comes."""
        return self.joins and self.read and self.remember and self.max_age is None

    def of_one(self, job_id: str, position: int) -> Self:
        """Look for one picture of a job, whatever the scope: it is shared by who repeats the job."""
        everyone = replace(self, scope="project", read=True, join=True, remember=True, max_age=None)
        return replace(everyone, plan=repeated_name(job_id, position), lifetime=REPEATED, fresh=REPEATED)
