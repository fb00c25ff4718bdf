"""Copies what an installation on this machine cannot be without, in the order in which the copies fit together."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from gateway.adapters.copying import copy_file, copy_folder
from gateway.adapters.sql.copying import copy_database, file_of
from gateway.adapters.store.objects import Disk
from gateway.domain.errors import InvalidValue
from gateway.settings import Settings
from gateway.wiring import prepare_data_dir
from gateway.wiring.store import open_objects

SPOOLS = ("spool", "spool-confirmed")


@dataclass(frozen=True, slots=True)
class Backup:
    """What was copied; `pictures` is None when they are in a bucket."""

    settlements: int
    pictures: int | None


async def back_up(settings: Settings, folder: Path) -> Backup:
    """Copy secret, waiting settlements, database and pictures into a new folder, while gateways may run.

    A settlement leaves the disk when the ledger has its line, and a picture is stored before its line is written: so
    the database comes between the two. Redis is left out: an empty one is counted anew from the ledger.

    Raises:
        InvalidValue: the folder is there already; Misconfigured: something cannot be copied, or is a server's.
    """
    database = file_of(settings.database.url.reveal() or f"sqlite:///{settings.data_dir / 'gateway.db'}")
    prepare_data_dir(settings.data_dir)
    _make(folder)
    secret = settings.data_dir / "secret.key"
    if secret.exists():
        copy_file(secret, folder / secret.name)
    copied = [await asyncio.to_thread(copy_folder, settings.data_dir / name, folder / name) for name in SPOOLS]
    await copy_database(database, folder / "gateway.db")
    return Backup(sum(copied), await _pictures(settings, folder / "store"))


async def _pictures(settings: Settings, target: Path) -> int | None:
    objects = open_objects(settings)
    return await asyncio.to_thread(copy_folder, objects.folder, target) if isinstance(objects, Disk) else None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise InvalidValue(f"{folder} is there already: name a new folder for each backup.", param="folder") from None
