"""What the use cases need of the durable lists of keys and projects, and how running gateways hear of changes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gateway.domain.admin_keys import AdminKey
from gateway.domain.keys import Access, Digest, Renewal, StoredKey
from gateway.domain.paging import Page, Place
from gateway.domain.projects import Project
from gateway.domain.terms import Changes


class KeyStore(Protocol):
    """The durable list of keys. Every method raises DatabaseUnavailable when it cannot be reached."""

    async def get(self, key_id: str) -> StoredKey | None:
        """Find a key; None when there is none of this id."""

    async def add(self, key: StoredKey) -> None:
        """Store a new key; NameTaken when a key of its project that is not revoked has its name."""

    async def list(self, project_id: str | None = None) -> list[StoredKey]:
        """Give all keys, or those of a project, oldest first."""

    async def page(self, project_id: str, place: Place, access: Access | None = None) -> Page[StoredKey] | None:
        """Give a page of a project's keys that are not revoked; None when it has no key to begin after.

        A key has no access while it is disabled or its project archived.
        """

    async def page_accounts(self, project_id: str, place: Place) -> Page[StoredKey] | None:
        """Give a page of the first keys of service accounts that have a key that is not revoked; None as above."""

    async def of_account(self, project_id: str, account_id: str) -> Sequence[StoredKey]:
        """Give all keys of a service account, the first one first."""

    async def change(self, key_id: str, changes: Changes) -> bool:
        """Set the named fields in one step; False when there is no key of this id, NameTaken as above."""

    async def replace_secret(self, key_id: str, digest: Digest, last_four: str, old_until: datetime | None) -> bool:
        """Exchange the secret; the old one opens until `old_until`. False when no such key is in use."""

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke a key; False when there is none of this id. Revoking twice keeps the first time."""

    async def touch(self, used: Mapping[str, datetime]) -> None:
        """Note when keys were last used; times do not run back."""

    async def renew(self, renewals: Sequence[Renewal]) -> None:
        """Put new digests where the old ones still are."""


class ProjectStore(Protocol):
    """The durable list of projects; the default one is in it from the start. Raises as KeyStore does."""

    async def find(self, id_or_name: str) -> Project | None:
        """Find a project; None when there is none of this id or name."""

    async def add(self, project: Project) -> None:
        """Store a new project; NameTaken when there is one of its name."""

    async def list(self) -> list[Project]:
        """Give all projects, oldest first."""

    async def page(self, place: Place, *, archived: bool) -> Page[Project] | None:
        """Give a page of the projects, of archived ones too if asked; None when there is none to begin after."""

    async def change(self, project_id: str, changes: Changes) -> bool:
        """Set the named fields in one step; False when there is no project of this id, NameTaken as above."""

    async def archive(self, project_id: str, at: datetime) -> bool:
        """Archive a project; False when there is none of this id. Archiving twice keeps the first time."""


class AdminKeyStore(Protocol):
    """The durable list of admin keys. Raises as KeyStore does."""

    async def get(self, key_id: str) -> AdminKey | None:
        """Find a key; None when there is none of this id."""

    async def find(self, digests: Sequence[bytes]) -> AdminKey | None:
        """Find the key that has one of the digests, whatever its state; None when there is none."""

    async def add(self, key: AdminKey) -> bool:
        """Store a new key; False when there is one of its digest."""

    async def add_first(self, key: AdminKey) -> bool:
        """Store the key that an installation makes by itself, once in its life; False when that has been done."""

    async def list(self) -> list[AdminKey]:
        """Give all keys, oldest first."""

    async def page(self, place: Place) -> Page[AdminKey] | None:
        """Give a page of the keys that are not revoked; None when there is none to begin after."""

    async def revoke(self, key_id: str, at: datetime) -> bool:
        """Revoke a key; False when there is none of this id. Revoking twice keeps the first time."""

    async def touch(self, key_id: str, at: datetime) -> None:
        """Note when a key was last used."""

    async def renew(self, renewal: Renewal) -> None:
        """Put a new digest where the old one still is, unless another key has it."""


class Announcer(Protocol):
    """The way to every running gateway."""

    async def announce(self, subject_id: str) -> None:
        """Say that a key or project has changed. Never fails: who is not told notices by itself within 30 seconds."""
