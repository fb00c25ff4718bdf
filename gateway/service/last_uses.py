"""What is learnt of keys when they are used: noted in memory, written once a minute, off the way of requests."""

from contextlib import suppress
from datetime import datetime

from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.keys import Renewal
from gateway.service.ports import Clock
from gateway.service.ports_keys import KeyStore

WRITE_SECONDS = 60.0


class LastUses:
    """Gathers the uses of keys, and digests to be renewed, and writes them in batches.

    A batch that cannot be written is dropped: the next use tells the same.
    """

    def __init__(self, keys: KeyStore, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._pending: dict[str, datetime] = {}
        self._renewals: dict[str, Renewal] = {}

    def note(self, key_id: str) -> None:
        """Note that a key is used now."""
        self._pending[key_id] = self._clock.now()

    def renew(self, renewal: Renewal) -> None:
        """Note that a key's digest was made with an older secret of the installation."""
        self._renewals[renewal.key_id] = renewal

    async def run(self) -> None:
        """Write every minute until cancelled."""
        while True:
            await self._clock.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write what was noted since the last time."""
        pending, self._pending = self._pending, {}
        renewals, self._renewals = self._renewals, {}
        with suppress(DatabaseUnavailable):
            if pending:
                await self._keys.touch(pending)
            if renewals:
                await self._keys.renew([*renewals.values()])
