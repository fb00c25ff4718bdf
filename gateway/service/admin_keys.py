"""Admin keys: the first one, create, list, revoke; and Bearer secret -> AdminKey."""

import hmac
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from gateway.domain.admin_keys import ADMIN_PREFIX, AdminKey, is_admin_secret
from gateway.domain.audit import admin_key_event
from gateway.domain.errors import DatabaseUnavailable, InvalidKey, MissingKey, NotAllowed, NotFound
from gateway.domain.keys import PREFIX, Digest, Renewal, digest, digest_of
from gateway.domain.paging import Page, Place
from gateway.domain.terms import parse_name
from gateway.service.administer import KeyForge
from gateway.service.audit import Audit
from gateway.service.paging import found
from gateway.service.ports import Clock
from gateway.service.ports_keys import AdminKeyStore

FIRST_NAME = "first"
GIVEN_NAME = "GLM_GATEWAY_ADMIN_KEY"
TOUCH_EVERY = timedelta(minutes=1)  # a write for every request would be one too many


class AdministerAdminKeys:
    """The operator's use cases of admin keys. A secret is given once, by what made it, and never again.

    `peppers` are the installation's secrets for digests, the newest first, which is also the forge's.
    """

    def __init__(
        self, keys: AdminKeyStore, forge: KeyForge, peppers: Sequence[bytes], clock: Clock, audit: Audit
    ) -> None:
        self._audit = audit
        self._keys = keys
        self._forge = forge
        self._peppers = peppers
        self._clock = clock

    async def ensure_first(self, given: str) -> str | None:
        """Let the key that the operator chose open, or make the first one when there is none and never was.

        A chosen key that has been revoked stays so, also when the installation's secret is replaced. Gives the secret
        that was made.
        """
        if given:
            known = await self._keys.find(_digests(self._peppers, given))
            if known is None:
                await self._add(self._key(GIVEN_NAME, self._forge.new_id(), given, ADMIN_PREFIX))
            else:
                await _renew(self._keys, known, digest_of(self._peppers[0], given))
            return None
        if await self._keys.list():
            return None
        key, secret = self._new(FIRST_NAME, None)
        return secret if await self._add(key, first=True) else None

    async def create(self, name: str, lifetime: timedelta | None = None) -> tuple[AdminKey, str]:
        """Make a key that opens for `lifetime`; gives it and its secret."""
        key, secret = self._new(parse_name("key", name), lifetime)
        await self._add(key)
        return key, secret

    async def list(self) -> list[AdminKey]:
        """Give all keys, oldest first, also those that are revoked."""
        return await self._keys.list()

    async def page(self, place: Place) -> Page[AdminKey]:
        """Give a page of the keys that are not revoked; InvalidValue when there is none to begin after."""
        return found(await self._keys.page(place), place)

    async def find(self, key_id: str) -> AdminKey:
        """Give a key; NotFound when there is none."""
        key = await self.look_up(key_id)
        if key is None:
            raise _no_such_key(key_id)
        return key

    async def look_up(self, key_id: str) -> AdminKey | None:
        """Give a key; None when there is none."""
        return await self._keys.get(key_id)

    async def revoke(self, key_id: str) -> None:
        """Make a key unusable at once and for good; NotFound when there is none."""
        async with self._audit.changing() as note:
            before = await self.find(key_id)
            await self._keys.revoke(key_id, self._clock.now())
            await note(admin_key_event(before, await self.find(key_id)))

    async def _add(self, key: AdminKey, *, first: bool = False) -> bool:
        """Store a key, or the installation's own first one; False when that is there."""
        async with self._audit.changing() as note:
            added = await (self._keys.add_first(key) if first else self._keys.add(key))
            if added:
                await note(admin_key_event(None, key))
        return added

    def _new(self, name: str, lifetime: timedelta | None) -> tuple[AdminKey, str]:
        key_id = self._forge.new_id()
        secret, _ = self._forge.new_secret(key_id, ADMIN_PREFIX)
        return self._key(name, key_id, secret, ADMIN_PREFIX + key_id[:4], lifetime), secret

    def _key(self, name: str, key_id: str, secret: str, prefix: str, lifetime: timedelta | None = None) -> AdminKey:
        now, digested = self._clock.now(), digest_of(self._peppers[0], secret)
        return AdminKey(
            id=key_id,
            name=name,
            prefix=prefix,
            last_four=secret[-4:],
            digest=digested.value,
            digested_with=digested.made_with,
            created_at=now,
            expires_at=now + lifetime if lifetime else None,
        )


class AuthenticateAdmin:
    """Turn a presented secret into an admin key. Nothing is remembered: a revoked key is refused at once."""

    def __init__(self, keys: AdminKeyStore, peppers: Sequence[bytes], clock: Clock) -> None:
        self._keys = keys
        self._peppers = peppers
        self._clock = clock
        self._noted: dict[str, datetime] = {}  # when the use of a key was last written, or tried to be

    async def __call__(self, secret: str | None) -> AdminKey:
        """Find the admin key of a secret.

        Raises:
            MissingKey: there is no secret.
            NotAllowed: it looks like a project's key, whether or not it is one.
            InvalidKey: it is unknown, revoked or expired.
        """
        if not secret:
            raise MissingKey("You didn't provide an admin key. Send it as 'Authorization: Bearer sk-admin-...'.")
        if secret.startswith(PREFIX):
            raise NotAllowed("A project's key cannot administer. Use an admin key, 'sk-admin-...'.")
        key = await self._find(secret) if is_admin_secret(secret) else None
        if key is None:
            raise InvalidKey("Incorrect admin key provided. Make one with 'glm-gateway admin-keys create'.")
        now = self._clock.now()
        if key.state(now) != "active":
            raise InvalidKey(f"The admin key {key.redacted} is {key.state(now)}. Use another one.")
        with suppress(DatabaseUnavailable):  # it is read only: so that reports can be read then
            await _renew(self._keys, key, digest_of(self._peppers[0], secret))
        await self._note_use(key.id, now)
        return key

    async def _note_use(self, key_id: str, now: datetime) -> None:
        """Note a use once a minute; it is dropped while the database is read only, so that reports can be read then."""
        if key_id in self._noted and now - self._noted[key_id] < TOUCH_EVERY:
            return
        self._noted[key_id] = now
        with suppress(DatabaseUnavailable):
            await self._keys.touch(key_id, now)

    async def _find(self, secret: str) -> AdminKey | None:
        """Look for the digest, which tells nobody the secret; compare in constant time what was found."""
        digests = _digests(self._peppers, secret)
        key = await self._keys.find(digests)
        same = [hmac.compare_digest(key.digest, one) for one in digests] if key else []
        return key if any(same) else None


async def _renew(keys: AdminKeyStore, key: AdminKey, newest: Digest) -> None:
    """Let a key hang on the newest of the installation's secrets: those before it are left out some day."""
    if key.digested_with != newest.made_with:
        await keys.renew(Renewal(key.id, key.digest, newest))


def _digests(peppers: Sequence[bytes], secret: str) -> list[bytes]:
    return [digest(pepper, secret) for pepper in peppers]


def _no_such_key(key_id: str) -> NotFound:
    return NotFound(
        f"There is no admin key {key_id[:100]!r}. 'glm-gateway admin-keys list' shows their ids.", param="id"
    )
