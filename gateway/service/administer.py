"""Keys as the operator handles them: create, list, limit, rename, rotate, disable, revoke."""

from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from gateway.domain.audit import AuditEvent, account_ended_event, key_event
from gateway.domain.errors import InvalidValue, NotFound
from gateway.domain.keys import ID_LENGTH, PREFIX, RANDOM_LENGTH, Access, Digest, StoredKey, compose, digest_of
from gateway.domain.paging import Page, Place
from gateway.domain.projects import DEFAULT_NAME, Project
from gateway.domain.terms import LIMIT_FIELDS, LONGEST_NAME, Changes, parse_name, with_changes
from gateway.service.administer_projects import AdministerProjects
from gateway.service.audit import Audit
from gateway.service.paging import found
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

    def new_secret(self, key_id: str, prefix: str = PREFIX) -> tuple[str, Digest]:
        """Make a secret of a key, and its digest."""
        secret = compose(key_id, self.random_text(RANDOM_LENGTH), prefix)
        return secret, digest_of(self.pepper, secret)


class AdministerKeys:
    """The operator's use cases of keys. A secret is given once, by what made it, and never again.

    The audit log has them as `api_key`.
    """

    def __init__(
        self,
        keys: KeyStore,
        projects: AdministerProjects,
        announcer: Announcer,
        forge: KeyForge,
        clock: Clock,
        audit: Audit,
    ) -> None:
        self._audit = audit
        self._kind = "api_key"
        self._keys = keys
        self._projects = projects
        self._announcer = announcer
        self._forge = forge
        self._clock = clock

    def as_accounts(self) -> "AdministerKeys":
        """Give the same use cases, of which the audit log speaks as changes of a `service_account`."""
        accounts = copy(self)
        accounts._kind = "service_account"  # noqa: SLF001 - it is our own
        return accounts

    async def create(
        self, name: str, *, project: str = DEFAULT_NAME, terms: Changes | None = None
    ) -> tuple[StoredKey, str]:
        """Make a key of a project with the terms that are named, `expires_in` among them.

        Raises:
            InvalidRequest: the name cannot be had, or there is no such project, or it is archived.
        """
        parse_name("key", name)
        key_id = self._forge.new_id()
        secret, secret_digest = self._forge.new_secret(key_id)
        async with self._audit.changing() as note:
            bare = StoredKey(
                id=key_id,
                project=await self._open_project(project),
                name=name,
                prefix=f"{PREFIX}{key_id[:4]}",
                last_four=secret[-4:],
                digest=secret_digest.value,
                digested_with=secret_digest.made_with,
                created_at=self._clock.now(),
            )
            key = with_changes(bare, self._dated(terms or {}))
            await self._keys.add(key)
            await note(self._event(None, key))
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

    async def page(self, project: str, place: Place, access: Access | None = None) -> Page[StoredKey]:
        """Give a page of a project's keys that are not revoked, oldest first.

        Raises:
            InvalidValue: there is no such project, or it has no key to begin after.
        """
        owner = await self._projects.find(project)
        return found(await self._keys.page(owner.id, place, access), place)

    async def page_accounts(self, project: str, place: Place) -> Page[StoredKey]:
        """Give a page of the first keys of a project's service accounts; InvalidValue as above."""
        owner = await self._projects.find(project)
        return found(await self._keys.page_accounts(owner.id, place), place)

    async def of_account(self, project: str, account_id: str) -> Sequence[StoredKey]:
        """Give all keys of a service account, revoked ones too, the first one first; none when there is no such."""
        owner = await self._projects.find(project)
        return await self._keys.of_account(owner.id, account_id)

    async def find(self, key_id: str) -> StoredKey:
        """Give a key; InvalidValue when there is none."""
        key = await self.look_up(key_id)
        if key is None:
            raise _no_such_key(key_id)
        return key

    async def look_up(self, key_id: str) -> StoredKey | None:
        """Give a key; None when there is none."""
        return await self._keys.get(key_id)

    async def change(self, key_id: str, terms: Changes) -> StoredKey:
        """Change what is named and nothing else; running gateways know it within a second."""
        if not terms:
            return await self.find(key_id)
        return await self._noted(key_id, lambda _: self._keys.change(key_id, self._dated(terms)))

    async def rotate(self, key_id: str, overlap: timedelta) -> tuple[StoredKey, str]:
        """Make a new secret; the old one opens for `overlap` longer, and one that is older still no more.

        Raises:
            InvalidValue: there is no such key, or it is revoked.
        """
        secret, secret_digest = self._forge.new_secret(key_id)
        old_until = self._clock.now() + overlap if overlap else None
        async with self._audit.changing() as note:
            before = _unrevoked(await self.find(key_id))
            await self._keys.replace_secret(key_id, secret_digest, secret[-4:], old_until)
            after = await self.find(key_id)
            event = self._event(before, after)
            await note(replace(event, after={**event.after, "secret": "rotated"}))
        await self._announcer.announce(key_id)
        return after, secret

    async def rename(self, key_id: str, name: str) -> StoredKey:
        """Give a key another name; InvalidValue or NameTaken for one that cannot be had."""
        return await self.change(key_id, {"name": parse_name("key", name)})

    async def disable(self, key_id: str) -> StoredKey:
        """Refuse a key until it is enabled; doing so twice keeps the first time.

        Raises:
            InvalidValue: there is no such key, or it is revoked.
        """
        now = self._clock.now()
        return await self._noted(key_id, lambda key: self._set_disabled(key, key.disabled_at or now))

    async def enable(self, key_id: str) -> StoredKey:
        """Let a disabled key open again; raises as disabling does."""
        return await self._noted(key_id, lambda key: self._set_disabled(key, None))

    async def revoke(self, key_id: str) -> None:
        """Make a key unusable for good; every replica refuses it within a second. InvalidValue when there is none."""
        now = self._clock.now()
        await self._noted(key_id, lambda _: self._keys.revoke(key_id, now))

    async def end_account(self, first: StoredKey) -> None:
        """Make all keys of a service account, given by its first one, unusable for good, together."""
        now = self._clock.now()
        async with self._audit.changing() as note:
            keys = await self._keys.of_account(first.project.id, first.id)
            held = [key for key in keys if key.revoked_at is None]
            for key in held:
                await self._keys.revoke(key.id, now)
                if key.id != first.id:
                    await note(key_event("api_key", key, await self.find(key.id)))
            await note(account_ended_event(first, [key.id for key in held]))
        for key in held:
            await self._announcer.announce(key.id)

    async def _set_disabled(self, key: StoredKey, at: datetime | None) -> None:
        await self._keys.change(_unrevoked(key).id, {"disabled_at": at})

    async def _noted(self, key_id: str, act: Callable[[StoredKey], Awaitable[object]]) -> StoredKey:
        """Change a key in view of how it is, together with its line of the audit log; then tell gateways."""
        async with self._audit.changing() as note:
            before = await self.find(key_id)
            await act(before)
            after = await self.find(key_id)
            await note(self._event(before, after))
        await self._announcer.announce(key_id)
        return after

    def _event(self, before: StoredKey | None, after: StoredKey) -> AuditEvent:
        return key_event(self._kind, before, after)

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


def _unrevoked(key: StoredKey) -> StoredKey:
    if key.revoked_at is not None:
        raise InvalidValue(f"The key {key.id!r} is revoked; make a new one.", param="id")
    return key


def _no_such_key(key_id: str) -> NotFound:
    return NotFound(f"There is no key {key_id[:100]!r}. 'glm-gateway keys list' shows their ids.", param="id")
