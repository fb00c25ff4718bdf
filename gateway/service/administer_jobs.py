"""What an operator does about jobs and remembered pictures, which are in Redis: the audit log is told afterwards."""

from gateway.domain.audit import AuditEvent
from gateway.domain.errors import InvalidValue
from gateway.service.administer_projects import AdministerProjects
from gateway.service.audit import Audit
from gateway.service.ports_flights import JobBoard, RunningJob


class AdministerJobs:
    """The operator's use cases of what runs and what is remembered. All raise QuotaUnavailable."""

    def __init__(self, board: JobBoard, projects: AdministerProjects, audit: Audit) -> None:
        self._board = board
        self._projects = projects
        self._audit = audit

    async def list(self) -> list[RunningJob]:
        """Give what runs in the installation, the oldest first."""
        return await self._board.jobs()

    async def cancel(self, job_id: str) -> None:
        """Drop the pictures of a job that are not sent yet; InvalidValue when no such job runs."""
        if not await self._board.cancel(job_id):
            raise InvalidValue(f"No job {job_id[:100]!r} runs. 'glm-gateway jobs list' shows those that do.")
        await self._audit.note(AuditEvent(type="job.canceled", resource_id=job_id, after={"canceled": True}))

    async def purge(self, project: str | None) -> int:
        """Forget remembered pictures, all or a project's; the number of plans. NotFound when there is no such project.

        With nothing to forget nothing is changed, and the audit log is not told.
        """
        owner = await self._projects.find(project) if project else None
        forgotten = await self._board.purge(owner.id if owner else None)
        event = AuditEvent(
            type="cache.purged",
            resource_id=owner.id if owner else "cache",
            project_id=owner.id if owner else "",
            project_name=owner.name if owner else "",
            before={"prompts": forgotten},
            after={"prompts": 0},
        )
        await self._audit.note(event)
        return forgotten
