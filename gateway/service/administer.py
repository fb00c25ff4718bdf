"""Keys as the operator handles them: create, list, limit, rename, rotate, disable, revoke."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from gateway.domain.errors import InvalidValue, NotFound
from gateway.domain.keys import ID_LENGTH, PREFIX, RANDOM_LENGTH, StoredKey, compose, digest
from gateway.domain.projects import DEFAULT_NAME, Project
from gateway.domain.terms import LIMIT_FIELDS, LONGEST_NAME, Changes, parse_name, with_changes
from gateway.service.administer_projects import AdministerProjects
from gateway.service.ports import Clock
from gateway.service.ports_keys import Announcer, KeyStore

SHARED_TERMS = ("models", "ips", "cache_scope", "unwatermarked_allowed")  # with the limits, of an account's keys
MARK_LENGTH = 4


@dataclass(frozen=True, slots=True)
class KeyForge:
    """Makes secrets. `pepper` is the installation's; `random_text(k)` gives k unguessable characters."""

    pepper: bytes
    random_text: Callable[[int], str]

    def new_id(self) -> str:
        """Draw the id of a key."""
        return self.random_text(ID_LENGTH)

    def new_secret(self, key_id: str, prefix: str = PREFIX) -> tuple[str, bytes]:
        """Make a secret of a key, and its digest."""
        secret = compose(key_id, self.random_text(RANDOM_LENGTH), prefix)
        return secret, digest(self.pepper, secret)


class AdministerKeys:
    """The operator's use cases of keys. A secret is given once, by what made it, and never again."""

    def __init__(
        self, keys: KeyStore, projects: AdministerProjects, announcer: Announcer, forge: KeyForge, clock: Clock
    ) -> None:
        self._keys = keys
        self._projects = projects
        self._announcer = announcer
        self._forge = forge
        self._clock = clock

    async def create(
        self, name: str, *, project: str = DEFAULT_NAME, terms: Changes | None = None
    ) -> tuple[StoredKey, str]:
        """Make a key of a project with the terms that are named, `expires_in` among them.

        Raises:
            InvalidRequest: the name cannot be had, or there is no such project, or it is archived.
        """
        parse_name("key", name)
        owner = await self._open_project(project)
        key_id = self._forge.new_id()
        secret, secret_digest = self._forge.new_secret(key_id)
        bare = StoredKey(
            id=key_id,
            project=owner,
            name=name,
            prefix=f"{PREFIX}{key_id[:4]}",
            last_four=secret[-4:],
            digest=secret_digest,
            created_at=self._clock.now(),
        )
        key = with_changes(bare, self._dated(terms or {}))
        await self._keys.add(key)
        # A gateway may have looked for this id in vain: it remembers that too.
        await self._announcer.announce(key_id)
        return key, secret

    async def add_to_account(
        self, account: StoredKey, name: str | None, lifetime: timedelta | None
    ) -> tuple[StoredKey, str]:
        """Make a further key of a service account, given by its first key; it may do what that one may, counted apart.

        Without a name it is called like the account, with some characters of its own. Raises as above.
        """
        mark = self._forge.new_id()[:MARK_LENGTH]
        terms: dict[str, Any] = {field: getattr(account, field) for field in SHARED_TERMS}
        terms |= {field: getattr(account.limits, field) for field in LIMIT_FIELDS}
        terms |= {"expires_in": lifetime, "account": account.account_id}
        chosen = name if name is not None else f"{account.name[: LONGEST_NAME - MARK_LENGTH - 1]} {mark}"
        return await self.create(chosen, project=account.project.id, terms=terms)

    async def list(self, project: str | None = None) -> list[StoredKey]:
        """Give all keys or those of a project, oldest first."""
        return await self._keys.list((await self._projects.find(project)).id if project else None)

    async def find(self, key_id: str) -> StoredKey:
        """Give a key; InvalidValue when there is none."""
        key = await self._keys.get(key_id)
        if key is None:
            raise _no_such_key(key_id)
        return key

    async def change(self, key_id: str, terms: Changes) -> StoredKey:
        """Change what is named and nothing else; running gateways know it within a second."""
        await self.find(key_id)
        if terms:
            await self._keys.change(key_id, self._dated(terms))
            await self._announcer.announce(key_id)
        return await self.find(key_id)

    async def rotate(self, key_id: str, overlap: timedelta) -> tuple[StoredKey, str]:
        """Make a new secret; the old one opens for `overlap` longer, and one that is older still no more.

        Raises:
            InvalidValue: there is no such key, or it is revoked.
        """
        secret, secret_digest = self._forge.new_secret(key_id)
        old_until = self._clock.now() + overlap if overlap else None
        if not await self._keys.replace_secret(key_id, secret_digest, secret[-4:], old_until):
            await self._find_unrevoked(key_id)
        await self._announcer.announce(key_id)
        return await self.find(key_id), secret

    async def rename(self, key_id: str, name: str) -> StoredKey:
        """Give a key another name; InvalidValue or NameTaken for one that cannot be had."""
        return await self.change(key_id, {"name": parse_name("key", name)})

    async def disable(self, key_id: str) -> StoredKey:
        """Refuse a key until it is enabled; doing so twice keeps the first time.

        Raises:
            InvalidValue: there is no such key, or it is revoked.
        """
        key = await self._find_unrevoked(key_id)
        return await self.change(key_id, {"disabled_at": key.disabled_at or self._clock.now()})

    async def enable(self, key_id: str) -> StoredKey:
        """Let a disabled key open again; raises as disabling does."""
        await self._find_unrevoked(key_id)
        return await self.change(key_id, {"disabled_at": None})

    async def revoke(self, key_id: str) -> None:
        """Make a key unusable for good; every replica refuses it within a second. InvalidValue when there is none."""
        if not await self._keys.revoke(key_id, self._clock.now()):
            raise _no_such_key(key_id)
        await self._announcer.announce(key_id)

    async def _find_unrevoked(self, key_id: str) -> StoredKey:
        key = await self.find(key_id)
        if key.revoked_at is not None:
            raise InvalidValue(f"The key {key.id!r} is revoked; make a new one.", param="id")
        return key

    async def _open_project(self, id_or_name: str) -> Project:
        project = await self._projects.find(id_or_name)
        if project.archived_at is not None:
            raise InvalidValue(f"The project {project.name!r} is archived; its keys are refused.", param="project")
        return project

    def _dated(self, terms: Changes) -> dict[str, Any]:
        """Turn a lifetime into the moment of its end."""
        dated = dict(terms)
        if "expires_in" in dated:
            lifetime = dated.pop("expires_in")
            dated["expires_at"] = self._clock.now() + lifetime if lifetime else None
        return dated


def _no_such_key(key_id: str) -> NotFound:
    return NotFound(f"There is no key {key_id[:100]!r}. 'glm-gateway keys list' shows their ids.", param="id")
