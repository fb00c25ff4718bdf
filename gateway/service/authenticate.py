"""Bearer secret -> Caller, with a memory so short that a revoked key stops within a second."""

import hmac
from collections.abc import Sequence
from math import inf

from cachetools import LRUCache

from gateway.domain.errors import InvalidKey, MissingKey
from gateway.domain.keys import Caller, StoredKey, digest, id_of
from gateway.service.ports import Clock, KeyStore

MEMORY_SECONDS = 1.0  # a change is felt by every replica within this time
MEMORY_ENTRIES = 10_000  # bounded: random well-formed keys must not fill the memory


class Authenticate:
    """Turn a presented secret into a Caller; unknown and revoked keys are remembered too.

    `peppers` are the installation's secrets for digests: all of them verify, while one replaces another.
    """

    def __init__(self, keys: KeyStore, peppers: Sequence[bytes], clock: Clock) -> None:
        self._keys = keys
        self._peppers = peppers
        self._clock = clock
        self._memory: LRUCache[str, tuple[float, StoredKey | None]] = LRUCache(MEMORY_ENTRIES)

    async def __call__(self, secret: str | None) -> Caller:
        """Find the key of a secret.

        Raises:
            MissingKey: there is no secret.
            InvalidKey: mistyped (no look-up is made), unknown, revoked or expired.
        """
        if not secret:
            raise MissingKey("You didn't provide an API key. Send it as 'Authorization: Bearer sk-glm-...'.")
        key_id = id_of(secret)
        key = await self._find(key_id) if key_id else None
        if key is None or not self._opens(key, secret):
            raise InvalidKey(
                f"Incorrect API key provided: {_redacted(secret)}. Use a key made with 'glm-gateway keys create'.",
            )
        return Caller(key_id=key.id, name=key.name)

    def _opens(self, key: StoredKey, secret: str) -> bool:
        """Compare in constant time, whatever the state of the key."""
        same = [hmac.compare_digest(key.digest, digest(pepper, secret)) for pepper in self._peppers]
        return any(same) and key.usable(self._clock.now())

    async def _find(self, key_id: str) -> StoredKey | None:
        now = self._clock.monotonic()
        asked, key = self._memory.get(key_id, (-inf, None))
        if now - asked >= MEMORY_SECONDS:
            key = await self._keys.get(key_id)
            self._memory[key_id] = (now, key)  # as old as the question, however long the answer took
        return key


def _redacted(secret: str) -> str:
    """Show enough to recognise a key by and too little to use it."""
    return f"{secret[:7]}***{secret[-4:]}" if len(secret) > 20 and secret.isascii() else "***"  # noqa: PLR2004
