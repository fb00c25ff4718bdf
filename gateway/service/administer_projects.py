"""Projects as the operator handles them: create, list, limit, rename, archive."""

from collections.abc import Callable

from gateway.domain.errors import InvalidValue, NotFound
from gateway.domain.projects import DEFAULT_ID, DEFAULT_NAME, PROJECT_PREFIX, Project
from gateway.domain.terms import Changes, parse_name, with_changes
from gateway.service.ports import Clock
from gateway.service.ports_keys import Announcer, ProjectStore

ID_LENGTH = 16


class AdministerProjects:
    """The operator's use cases of projects. `random_text(k)` gives k unguessable characters of the key alphabet."""

    def __init__(
        self, projects: ProjectStore, announcer: Announcer, clock: Clock, random_text: Callable[[int], str]
    ) -> None:
        self._projects = projects
        self._announcer = announcer
        self._clock = clock
        self._random_text = random_text

    async def create(self, name: str, terms: Changes) -> Project:
        """Make a project with the terms that are named; InvalidValue or NameTaken for a name that cannot be had."""
        _check_name(name)
        bare = Project(id=PROJECT_PREFIX + self._random_text(ID_LENGTH), name=name, created_at=self._clock.now())
        project = with_changes(bare, terms)
        await self._projects.add(project)
        return project

    async def list(self) -> list[Project]:
        """Give all projects, oldest first."""
        return await self._projects.list()

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
        project = await self.find(id_or_name)
        if terms:
            await self._projects.change(project.id, terms)
            await self._announcer.announce(project.id)
        return await self.find(project.id)

    async def rename(self, id_or_name: str, name: str) -> Project:
        """Give a project another name; InvalidValue or NameTaken for one that cannot be had."""
        project = await self.find(id_or_name)
        if project.id == DEFAULT_ID:
            raise InvalidValue(
                f"The project {DEFAULT_NAME!r} cannot be renamed: keys made without a project belong to it.",
                param="project",
            )
        _check_name(name)
        return await self.change(project.id, {"name": name})

    async def archive(self, id_or_name: str) -> Project:
        """Refuse all keys of a project until it is unarchived; what they did stays in the ledger."""
        project = await self.find(id_or_name)
        if project.id == DEFAULT_ID:
            raise InvalidValue(
                f"The project {DEFAULT_NAME!r} cannot be archived: keys made without a project belong to it.",
                param="project",
            )
        await self._projects.archive(project.id, self._clock.now())
        await self._announcer.announce(project.id)
        return await self.find(project.id)

    async def unarchive(self, id_or_name: str) -> Project:
        """Let the keys of a project open again, as far as nothing else keeps them from it."""
        project = await self.find(id_or_name)
        return await self.change(project.id, {"archived_at": None})


def _check_name(name: str) -> None:
    if parse_name("project", name).startswith(PROJECT_PREFIX):
        raise InvalidValue(f"Names that begin with {PROJECT_PREFIX!r} would look like an id.", param="name")
