"""Renews this replica's leases from a thread of its own, which a busy event loop cannot stall."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.collector import Collector
from gateway.adapters.redis.lease import Lease
from gateway.adapters.redis.names import Tagged
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable

BEATS = 6  # within one lease (design.md section 6, "Leases")


class Heartbeat:
    """Beats while it is entered. `places` gives where the replica holds something; `lease` is told of renewals.

    `crashed` is told, in the thread, of what is no outage: a beat that fails is not the last one.
    """

    def __init__(
        self,
        url: str,
        owner: str,
        places: Callable[[], Iterable[Tagged]],
        crashed: Callable[[BaseException], None],
        *,
        lease: Lease,
    ) -> None:
        self._url = url
        self._owner = owner
        self._places = places
        self._crashed = crashed
        self._lease = lease
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._beat()), name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    async def _beat(self) -> None:
        client = RedisClient(self._url)
        collector = Collector(Scripts(client), self._owner, lease=self._lease.seconds)
        try:
            while not self._stopping.is_set():
                await self._renew(collector)
                await asyncio.to_thread(self._stopping.wait, self._lease.seconds / BEATS)
        finally:
            await client.aclose()

    async def _renew(self, collector: Collector) -> None:
        try:
            asked = time.monotonic()
            with suppress(StoreUnavailable):
                await collector.renew(tuple(self._places()))
                self._lease.renewed(asked)
        except Exception as failure:  # noqa: BLE001 - whatever it is, the leases must not end with it
            self._crashed(failure)
