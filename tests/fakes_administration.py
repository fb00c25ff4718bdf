"""In-memory projects, keys and admin keys, and what the use cases of administration need beside them."""

import asyncio
import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.domain.audit import Actor
from gateway.domain.errors import DatabaseUnavailable, NameTaken
from gateway.domain.keys import PREFIX, StoredKey, compose, digest
from gateway.domain.paging import Page, page_of
from gateway.domain.projects import DEFAULT_ID, DEFAULT_NAME, Project
from gateway.domain.terms import with_changes
from gateway.service.admin_keys import AdministerAdminKeys
from gateway.service.administer import AdministerKeys, KeyForge
from gateway.service.administer_projects import AdministerProjects
from gateway.service.audit import Audit

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PEPPER = b"a pepper for tests"
DEFAULT = Project(id=DEFAULT_ID, name=DEFAULT_NAME, created_at=NOW - timedelta(days=1))


def a_project(name="design", **changes):
    return Project(**{"id": f"proj_{name}", "name": name, "created_at": NOW, **changes})


def a_secret(key_id="abcDEF012345", random="r" * 32):
    return compose(key_id, random)


def a_key(secret=None, **changes):
    """A stored key of the default project; `secret` says its id and its digest."""
    secret = secret or a_secret()
    key_id = secret[len(PREFIX) : len(PREFIX) + 12]
    ordinary = {
        "id": key_id,
        "project": DEFAULT,
        "name": "tests",
        "prefix": secret[: len(PREFIX) + 4],
        "last_four": secret[-4:],
        "digest": digest(PEPPER, secret),
        "created_at": NOW,
    }
    return StoredKey(**{**ordinary, **changes})


class Clock:
    """Stands still; a sleep takes its time at once."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self):
        return self.seconds

    async def sleep(self, seconds):
        self.seconds += seconds
        await asyncio.sleep(0)


class FakeProjects:
    """The project store; the default project is in it from the start."""

    def __init__(self, *projects):
        self.projects = {project.id: project for project in (DEFAULT, *projects)}

    async def find(self, id_or_name):
        found = [project for project in self.projects.values() if id_or_name in (project.id, project.name)]
        return found[0] if found else None

    async def add(self, project):
        if await self.find(project.name):
            raise NameTaken("taken", param="name")
        self.projects[project.id] = project

    async def list(self):
        return sorted(self.projects.values(), key=lambda project: (project.created_at, project.id))

    async def page(self, place, *, archived):
        return _page(await self.list(), lambda project: archived or project.archived_at is None, place)

    async def change(self, project_id, changes):
        if project_id not in self.projects:
            return False
        named = await self.find(changes["name"]) if "name" in changes else None
        if named and named.id != project_id:
            raise NameTaken(f"{named.name!r}", param="name")
        self.projects[project_id] = with_changes(self.projects[project_id], changes)
        return True

    async def archive(self, project_id, at):
        known = self.projects.get(project_id)
        return bool(known) and await self.change(project_id, {"archived_at": known.archived_at or at})


class FakeKeys:
    """The key store; `lookups` are the ids that were asked for. While `down`, it cannot be reached."""

    def __init__(self, projects, *keys):
        self.projects = projects
        self.keys = {key.id: key for key in keys}
        self.lookups = []
        self.down = False

    def _reach(self):
        if self.down:
            raise DatabaseUnavailable("down")

    def _joined(self, key):
        return replace(key, project=self.projects.projects.get(key.project.id, key.project))

    async def get(self, key_id):
        self.lookups.append(key_id)
        await asyncio.sleep(0)
        self._reach()
        return self._joined(self.keys[key_id]) if key_id in self.keys else None

    def _require_free_name(self, key):
        for other in self.keys.values():
            taken = (other.project.id, other.name, other.revoked_at) == (key.project.id, key.name, key.revoked_at)
            if taken and key.revoked_at is None and other.id != key.id:
                raise NameTaken(f"{key.name!r}", param="name")

    async def add(self, key):
        self._require_free_name(key)
        self.keys[key.id] = key

    async def list(self, project_id=None):
        keys = [self._joined(key) for key in self.keys.values() if project_id in (None, key.project.id)]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    async def page(self, project_id, place, access=None):
        def shown(key):
            inactive = key.disabled_at or key.project.archived_at
            return not key.revoked_at and access in (None, "inactive" if inactive else "active")

        return _page(await self.list(project_id), shown, place)

    async def page_accounts(self, project_id, place):
        keys = await self.list(project_id)
        living = {key.account_id for key in keys if not key.revoked_at}
        return _page(keys, lambda key: key.id in living, place)

    async def of_account(self, project_id, account_id):
        keys = [key for key in await self.list(project_id) if key.account_id == account_id]
        return sorted(keys, key=lambda key: key.account is not None)

    async def change(self, key_id, changes):
        if key_id not in self.keys:
            return False
        changed = with_changes(self.keys[key_id], changes)
        self._require_free_name(changed)
        self.keys[key_id] = changed
        return True

    async def replace_secret(self, key_id, digest, last_four, old_until):
        known = self.keys.get(key_id)
        if known is None or known.revoked_at:
            return False
        previous = known.digest if old_until else None
        changes = {"digest": digest.value, "digested_with": digest.made_with, "last_four": last_four}
        return await self.change(key_id, {**changes, "previous_digest": previous, "previous_until": old_until})

    async def revoke(self, key_id, at):
        known = self.keys.get(key_id)
        return bool(known) and await self.change(key_id, {"revoked_at": known.revoked_at or at})

    async def touch(self, used):
        self._reach()
        for key_id, at in used.items():
            known = self.keys.get(key_id)
            if known and (known.last_used_at is None or known.last_used_at < at):
                await self.change(key_id, {"last_used_at": at})

    async def renew(self, renewals):
        self._reach()
        for renewal in renewals:
            known = self.keys.get(renewal.key_id)
            if known and known.digest == renewal.old:
                await self.change(known.id, {"digest": renewal.new.value, "digested_with": renewal.new.made_with})


class FakeAdminKeys:
    """The store of admin keys; `lookups` counts the searches for digests."""

    def __init__(self):
        self.keys = {}
        self.made_first = False
        self.lookups = 0
        self.touches = 0
        self.read_only = False

    async def get(self, key_id):
        return self.keys.get(key_id)

    async def find(self, digests):
        self.lookups += 1
        return next((key for key in self.keys.values() if key.digest in digests), None)

    async def add(self, key):
        if await self.find([key.digest]):
            return False
        self.keys[key.id] = key
        return True

    async def add_first(self, key):
        if self.made_first:
            return False
        self.made_first = True
        return await self.add(key)

    async def list(self):
        return sorted(self.keys.values(), key=lambda key: (key.created_at, key.id))

    async def page(self, place):
        return _page(await self.list(), lambda key: key.revoked_at is None, place)

    async def revoke(self, key_id, at):
        known = self.keys.get(key_id)
        if known:
            self.keys[key_id] = replace(known, revoked_at=known.revoked_at or at)
        return known is not None

    async def touch(self, key_id, at):
        self.touches += 1
        if self.read_only:
            raise DatabaseUnavailable("It takes no writes.")
        self.keys[key_id] = replace(self.keys[key_id], last_used_at=at)

    async def renew(self, renewal):
        known = self.keys[renewal.key_id]
        if known.digest == renewal.old and await self.find([renewal.new.value]) in (None, known):
            self.keys[known.id] = replace(known, digest=renewal.new.value, digested_with=renewal.new.made_with)


class FakeAnnouncer:
    """Remembers what was announced."""

    def __init__(self):
        self.told = []

    async def announce(self, subject_id):
        self.told.append(subject_id)


class FakeAuditLog:
    """The audit log in memory; it undoes nothing."""

    def __init__(self):
        self.entries = []

    @asynccontextmanager
    async def transaction(self):
        yield

    async def add(self, entry):
        self.entries.append(replace(entry, number=len(self.entries) + 1))

    async def page(self, question):
        found = [entry for entry in self.entries[::-1] if _answers(question, entry)]
        if question.after is None and question.before is not None:
            nearest = found[-question.limit :]
            return Page(nearest, len(found) > len(nearest))
        return page_of(found, question.limit)


def _answers(question, entry):
    values = {"type": entry.event.type, "actor_id": entry.actor.id}
    values |= {name: getattr(entry.event, name) for name in ("project_id", "resource_id")}
    return (
        (question.after is None or entry.number < question.after)
        and (question.before is None or entry.number > question.before)
        and (question.start is None or entry.time >= question.start)
        and (question.end is None or entry.time < question.end)
        and all(values[name] in wanted for name, wanted in question.only.items())
    )


def _page(items, shown, place):
    """A page of items in their order; None when there is no such item to begin after."""
    items = items[::-1] if place.newest_first else items
    ids = [item.id for item in items]
    if place.after is not None and place.after not in ids:
        return None
    start = 0 if place.after is None else ids.index(place.after) + 1
    return page_of([item for item in items[start:] if shown(item)], place.limit)


OPERATOR = Actor(kind="cli", id="cli:tester", name="tester")


class Office:
    """All use cases of administration on fakes, in the hands of one operator."""

    def __init__(self, *projects):
        store = FakeProjects(*projects)
        self._open(FakeAuditLog(), store, FakeKeys(store), FakeAdminKeys())

    @classmethod
    def on(cls, log, projects, keys, admin_keys):
        """The same on other stores."""
        office = cls.__new__(cls)
        office._open(log, projects, keys, admin_keys)
        return office

    def _open(self, log, projects, keys, admin_keys):
        self.log, self.store, self.key_store, self.admin_key_store = log, projects, keys, admin_keys
        self.announcer, self.clock, self._drawn = FakeAnnouncer(), Clock(), 0
        self.audit = Audit(log, self.clock, OPERATOR)
        self.projects = AdministerProjects(self.store, self.announcer, self.clock, self.draw, self.audit)
        forge = KeyForge(PEPPER, self.draw)
        self.keys = AdministerKeys(self.key_store, self.projects, self.announcer, forge, self.clock, self.audit)
        self.admin_keys = AdministerAdminKeys(admin_keys, forge, (PEPPER,), self.clock, self.audit)

    def draw(self, length):
        """Characters that differ each time."""
        self._drawn += 1
        return hashlib.sha256(str(self._drawn).encode()).hexdigest()[:length]
