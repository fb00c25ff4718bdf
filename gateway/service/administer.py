"""Keys as the operator handles them: create, list, revoke."""

from collections.abc import Callable
from datetime import timedelta

from gateway.domain.errors import InvalidValue
from gateway.domain.keys import ID_LENGTH, PREFIX, RANDOM_LENGTH, StoredKey, compose, digest
from gateway.service.ports import Clock, KeyStore

LONGEST_NAME = 100


class Administer:
    """The operator's use cases. `random_text(k)` gives k unguessable characters of the key alphabet."""

    def __init__(self, keys: KeyStore, pepper: bytes, clock: Clock, random_text: Callable[[int], str]) -> None:
        self._keys = keys
        self._pepper = pepper
        self._clock = clock
        self._random_text = random_text

    async def create_key(self, name: str, *, lifetime: timedelta | None = None) -> tuple[StoredKey, str]:
        """Make a key; its secret is given here and never again. InvalidValue for a name that is empty or too long."""
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise InvalidValue(f"A key needs a name of 1 to {LONGEST_NAME} printable characters.", param="name")
        key_id = self._random_text(ID_LENGTH)
        secret = compose(key_id, self._random_text(RANDOM_LENGTH))
        now = self._clock.now()
        key = StoredKey(
            id=key_id,
            name=name,
            prefix=f"{PREFIX}{key_id[:4]}",
            last_four=secret[-4:],
            digest=digest(self._pepper, secret),
            created_at=now,
            expires_at=now + lifetime if lifetime else None,
        )
        await self._keys.add(key)
        return key, secret

    async def list_keys(self) -> list[StoredKey]:
        """Give all keys, oldest first."""
        return await self._keys.list()

    async def revoke_key(self, key_id: str) -> None:
        """Make a key unusable; every replica refuses it within a second. InvalidValue when there is no such key."""
        if not await self._keys.revoke(key_id, self._clock.now()):
            raise InvalidValue(f"There is no key {key_id!r}. 'glm-gateway keys list' shows their ids.", param="id")
