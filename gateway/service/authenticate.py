"""Bearer secret -> Caller, with a short memory that forgets at once what is said to have changed."""

import asyncio
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cachetools import LRUCache

from gateway.domain.addresses import Address, is_within
from gateway.domain.admin_keys import ADMIN_PREFIX
from gateway.domain.errors import AddressNotAllowed, DatabaseUnavailable, InvalidKey, MissingKey, NotAllowed
from gateway.domain.keys import Caller, KeyState, Renewal, StoredKey, caller_of, digest, digest_of, id_of, mark_of
from gateway.service.ports import Clock
from gateway.service.ports_keys import KeyStore

MEMORY_SECONDS = 30.0  # a change is felt by every replica within this time, told or not
STALE_SECONDS = 3600.0  # while SQL cannot be reached, keys are known for this long: nothing can change without SQL
AWAY_SECONDS = 10.0  # after SQL did not answer, what is remembered counts at once for so long, and is asked beside
BESIDE_SECONDS = 1.0  # between two such questions that get no answer: one that is refused at once takes 2 ms
MEMORY_ENTRIES = 10_000  # bounded: random well-formed keys must not fill the memory

_REFUSALS: dict[KeyState, str] = {
    "revoked": "The API key {key} has been revoked. Ask the gateway's operator for a new one.",
    "disabled": "The API key {key} is disabled. Ask the gateway's operator to enable it.",
    "expired": "The API key {key} has expired. Ask the gateway's operator for a new one.",
    "archived": "The project of the API key {key} is archived. Ask the gateway's operator for a key of another one.",
}


@dataclass(slots=True)
class _Remembered:
    """What a look-up found, None among it, and when it was asked: the answer is as old as the question."""

    key: StoredKey | None
    asked_at: float
    _caller: Caller | None = None

    def caller(self, key: StoredKey) -> Caller:
        """Say what the key may do; that is put together once."""
        if self._caller is None:
            self._caller = caller_of(key)
        return self._caller


class Authenticate:
    """Turn a presented secret into a Caller; unknown and revoked keys are remembered too.

    `peppers` are the installation's secrets for digests, the newest first: all of them verify, while one replaces
    another. `renew` is told of the keys that are used and whose digest was not made with the newest.
    """

    def __init__(
        self, keys: KeyStore, peppers: Sequence[bytes], clock: Clock, renew: Callable[[Renewal], None]
    ) -> None:
        self._keys = keys
        self._peppers = peppers
        self._newest = mark_of(peppers[0])
        self._clock = clock
        self._renew = renew
        self._memory: LRUCache[str, _Remembered] = LRUCache(MEMORY_ENTRIES)
        self._away_until = 0.0
        self._beside_at = 0.0
        self._lookups: dict[str, asyncio.Task[_Remembered]] = {}

    async def __call__(self, secret: str | None, address: Address | None = None) -> Caller:
        """Find the key of a secret that comes from an address.

        Raises:
            MissingKey: there is no secret.
            InvalidKey: mistyped (no look-up is made), unknown, revoked, disabled, expired, or its project is archived.
            AddressNotAllowed: the key may not be used from this address.
            NotAllowed: it looks like an admin key, whether or not it is one.
        """
        if not secret:
            raise MissingKey("You didn't provide an API key. Send it as 'Authorization: Bearer sk-glm-...'.")
        if secret.startswith(ADMIN_PREFIX):
            raise NotAllowed("Admin keys make no pictures. Use a project's key, 'sk-glm-...'.")
        key_id = id_of(secret)
        known = await self._find(key_id) if key_id else None
        key = known.key if known is not None else None
        if known is None or key is None or not self._opens(key, secret):
            raise InvalidKey(
                f"Incorrect API key provided: {_redacted(secret)}. Use a key made with 'glm-gateway keys create'.",
            )
        state = key.state(self._clock.now())
        if state != "active":
            raise InvalidKey(_REFUSALS[state].format(key=key.redacted))
        _require_address(key, address)
        if key.digested_with != self._newest:
            self._renew_digest(key, secret)
        return known.caller(key)

    def forget(self, subject_id: str) -> None:
        """Look up anew what belongs to a key or a project; an answer that is under way is not remembered."""
        self._lookups.clear()
        for key_id, known in list(self._memory.items()):
            if key_id == subject_id or (known.key is not None and known.key.project.id == subject_id):
                del self._memory[key_id]

    def forget_all(self) -> None:
        """Look up everything anew: changes may have gone unheard."""
        self._lookups.clear()
        self._memory.clear()

    def _opens(self, key: StoredKey, secret: str) -> bool:
        """Compare in constant time, whatever the state of the key."""
        stored, opens = key.digests(self._clock.now()), False
        for pepper in self._peppers:
            presented = digest(pepper, secret)
            for one in stored:
                opens |= hmac.compare_digest(presented, one)
        return opens

    def _renew_digest(self, key: StoredKey, secret: str) -> None:
        """Hand on the digest by the newest secret, unless a secret opened that the key's rotation has replaced."""
        if any(key.digest == digest(pepper, secret) for pepper in self._peppers):
            self._renew(Renewal(key.id, key.digest, digest_of(self._peppers[0], secret)))

    async def _find(self, key_id: str) -> _Remembered:
        known = self._memory.get(key_id)
        if known is not None and self._age(known) < MEMORY_SECONDS:
            return known
        if known is not None and self._clock.monotonic() < self._away_until and self._age(known) < STALE_SECONDS:
            self._look_up_beside(key_id)
            return known
        try:
            return await asyncio.shield(self._look_up(key_id))
        except DatabaseUnavailable:
            if known is None or self._age(known) >= STALE_SECONDS:
                raise
            return known

    def _look_up_beside(self, key_id: str) -> None:
        """Ask the store without waiting for it; while it gives no answers now and then, whichever key it is about."""
        now = self._clock.monotonic()
        if now >= self._beside_at and key_id not in self._lookups:
            self._beside_at = now + BESIDE_SECONDS
            _ = self._look_up(key_id)

    def _look_up(self, key_id: str) -> asyncio.Task[_Remembered]:
        """Ask the store once for all that wait for the same key, even if the first of them leaves."""
        if key_id not in self._lookups:
            lookup = asyncio.create_task(self._ask(key_id))
            self._lookups[key_id] = lookup
            lookup.add_done_callback(partial(self._remember, key_id))
        return self._lookups[key_id]

    async def _ask(self, key_id: str) -> _Remembered:
        asked_at = self._clock.monotonic()
        return _Remembered(await self._keys.get(key_id), asked_at)

    def _remember(self, key_id: str, lookup: asyncio.Task[_Remembered]) -> None:
        failure = asyncio.CancelledError() if lookup.cancelled() else lookup.exception()
        if failure is None:
            self._beside_at = 0.0
        elif isinstance(failure, DatabaseUnavailable):
            self._away_until = self._clock.monotonic() + AWAY_SECONDS
        if self._lookups.get(key_id) is not lookup:
            return  # something changed while it was under way
        del self._lookups[key_id]
        if failure is None:
            self._memory[key_id] = lookup.result()

    def _age(self, known: _Remembered) -> float:
        return self._clock.monotonic() - known.asked_at


def _require_address(key: StoredKey, address: Address | None) -> None:
    if key.ips and (address is None or not is_within(address, key.ips)):
        raise AddressNotAllowed(
            f"The API key {key.redacted} may not be used from the address {address or '(unknown)'}. "
            "Ask the gateway's operator to allow it.",
        )


def _redacted(secret: str) -> str:
    """Show enough to recognise a key by and too little to use it."""
    return f"{secret[:7]}***{secret[-4:]}" if len(secret) > 20 and secret.isascii() else "***"  # noqa: PLR2004 - longer than both ends together
