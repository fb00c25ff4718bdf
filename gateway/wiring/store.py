"""Opens the store of pictures, and what goes on beside: the probe that tells whether it can be used, and the sweep."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from gateway.adapters.store.objects import Bucket, Disk, Objects
from gateway.adapters.store.picture_store import ObjectPictureStore
from gateway.domain.errors import Misconfigured
from gateway.service.picture_ports import PictureStoreDown
from gateway.service.ports import Clock, Observer
from gateway.settings import Settings

PROBE_SECONDS, SWEEP_SECONDS = 10.0, 3600.0


@asynccontextmanager
async def open_store(settings: Settings, clock: Clock, observer: Observer) -> AsyncGenerator[ObjectPictureStore]:
    """Open the store. One that cannot be used now may be later: until then requests are refused."""
    store = ObjectPictureStore(open_objects(settings), observer)
    retention = timedelta(seconds=settings.store.retention)

    async def sweep() -> None:
        await store.sweep(clock.now() - retention)

    tasks = [asyncio.create_task(_every(PROBE_SECONDS, store.probe)), asyncio.create_task(_every(SWEEP_SECONDS, sweep))]
    try:
        yield store
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def open_objects(settings: Settings) -> Objects:
    """Open the place of the pictures' bytes; Misconfigured when that cannot be."""
    parts = urlsplit(settings.store.url)
    try:
        if parts.scheme == "s3":
            return Bucket(parts.netloc, parts.path.strip("/"))
        folder = Path(unquote(parts.path)) if parts.path else settings.data_dir / "store"
        return Disk(folder, room=settings.upstream.image_max_bytes)
    except PictureStoreDown as down:
        raise Misconfigured(f"The store of pictures cannot be opened (store.url): {down}.") from down


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Repeat work that tells of its failures by itself."""
    while True:
        await work()
        await asyncio.sleep(seconds)
