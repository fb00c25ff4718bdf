"""When each key was last used: noted in memory, written once a minute, off the way of requests."""

from datetime import datetime

from gateway.domain.errors import DatabaseUnavailable
from gateway.service.ports import Clock
from gateway.service.ports_keys import KeyStore

WRITE_SECONDS = 60.0


class LastUses:
    """Gathers the uses of keys and writes them in batches. A batch that cannot be written is dropped."""

    def __init__(self, keys: KeyStore, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._pending: dict[str, datetime] = {}

    def note(self, key_id: str) -> None:
        """Note that a key is used now."""
        self._pending[key_id] = self._clock.now()

    async def run(self) -> None:
        """Write every minute until cancelled."""
        while True:
            await self._clock.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write what was noted since the last time."""
        pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            await self._keys.touch(pending)
        except DatabaseUnavailable:
            return
