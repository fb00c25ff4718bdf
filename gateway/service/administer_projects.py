"""Projects as the operator handles them: create, list, limit, rename, archive."""

from collections.abc import Awaitable, Callable

from gateway.domain.audit import project_event
from gateway.domain.errors import InvalidValue, NotFound
from gateway.domain.paging import Page, Place
from gateway.domain.projects import DEFAULT_ID, DEFAULT_NAME, PROJECT_PREFIX, Project
from gateway.domain.terms import Changes, parse_name, with_changes
from gateway.service.audit import Audit
from gateway.service.paging import found
from gateway.service.ports import Clock
from gateway.service.ports_keys import Announcer, ProjectStore

ID_LENGTH = 16


class AdministerProjects:
    """The operator's use cases of projects. `random_text(k)` gives k unguessable characters of the key alphabet."""

    def __init__(
        self,
        projects: ProjectStore,
        announcer: Announcer,
        clock: Clock,
        random_text: Callable[[int], str],
        audit: Audit,
    ) -> None:
        self._projects = projects
        self._announcer = announcer
        self._clock = clock
        self._random_text = random_text
        self._audit = audit

    async def create(self, name: str, terms: Changes) -> Project:
        """Make a project with the terms that are named; InvalidValue or NameTaken for a name that cannot be had."""
        _check_name(name)
        bare = Project(id=PROJECT_PREFIX + self._random_text(ID_LENGTH), name=name, created_at=self._clock.now())
        project = with_changes(bare, terms)
        async with self._audit.changing() as note:
            await self._projects.add(project)
            await note(project_event(None, project))
        return project

    async def list(self) -> list[Project]:
        """Give all projects, oldest first."""
        return await self._projects.list()

    async def page(self, place: Place, *, archived: bool) -> Page[Project]:
        """Give a page of the projects, oldest first; InvalidValue when there is none to begin after."""
        return found(await self._projects.page(place, archived=archived), place)

    async def find(self, id_or_name: str) -> Project:
        """Give a project; NotFound when there is none."""
        project = await self._projects.find(id_or_name)
        if project is None:
            raise NotFound(
                f"There is no project {id_or_name[:100]!r}. 'glm-gateway projects list' shows them.", param="project"
            )
        return project

    async def change(self, id_or_name: str, terms: Changes) -> Project:
        """Change what is named and nothing else; running gateways know it within a second."""
        if not terms:
            return await self.find(id_or_name)
        return await self._noted(id_or_name, lambda project: self._projects.change(project.id, terms))

    async def rename(self, id_or_name: str, name: str) -> Project:
        """Give a project another name; InvalidValue or NameTaken for one that cannot be had."""
        _require_other_than_default(await self.find(id_or_name), "renamed")
        _check_name(name)
        return await self.change(id_or_name, {"name": name})

    async def archive(self, id_or_name: str) -> Project:
        """Refuse all keys of a project until it is unarchived; what they did stays in the ledger."""
        _require_other_than_default(await self.find(id_or_name), "archived")
        now = self._clock.now()
        return await self._noted(id_or_name, lambda project: self._projects.archive(project.id, now))

    async def unarchive(self, id_or_name: str) -> Project:
        """Let the keys of a project open again, as far as nothing else keeps them from it."""
        return await self.change(id_or_name, {"archived_at": None})

    async def _noted(self, id_or_name: str, act: Callable[[Project], Awaitable[object]]) -> Project:
        """Change a project together with its line of the audit log; then tell gateways."""
        async with self._audit.changing() as note:
            before = await self.find(id_or_name)
            await act(before)
            after = await self.find(before.id)
            await note(project_event(before, after))
        await self._announcer.announce(after.id)
        return after


def _require_other_than_default(project: Project, verb: str) -> None:
    if project.id == DEFAULT_ID:
        raise InvalidValue(
            f"The project {DEFAULT_NAME!r} cannot be {verb}: keys made without a project belong to it.",
            param="project",
        )


def _check_name(name: str) -> None:
    if parse_name("project", name).startswith(PROJECT_PREFIX):
        raise InvalidValue(f"Names that begin with {PROJECT_PREFIX!r} would look like an id.", param="name")
