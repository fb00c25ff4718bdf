"""Examines what the machine gives: the data directory, room for what waits on disk, files that may be open."""

import os
import resource
import secrets
from collections.abc import Iterator
from pathlib import Path

from gateway.domain.checkup import Finding, warning, well, wrong

SPARE_FILES = 256  # for Redis, SQL, logs and pictures on their way
OTHERS_MAY = 0o077
DATA_DIR, SPOOL, FILES = "data directory", "spool", "open files"


def examine_data_dir(data_dir: Path) -> Iterator[Finding]:
    """Tell whether the directory can be used, and by nobody else."""
    if not data_dir.exists():
        home = _existing(data_dir)
        if os.access(home, os.W_OK | os.X_OK):
            yield well(DATA_DIR, f"{data_dir} is made when the gateway starts.")
        else:
            yield wrong(DATA_DIR, f"{data_dir} cannot be made: {home} is not writable.", "Set GLM_GATEWAY_DATA_DIR.")
        return
    if not (data_dir.is_dir() and os.access(data_dir, os.R_OK | os.W_OK | os.X_OK)):
        advice = "Give it to the user that the gateway runs as, or set GLM_GATEWAY_DATA_DIR."
        yield wrong(DATA_DIR, f"{data_dir} is no directory that can be read and written.", advice)
        return
    open_to_all = [path for path in (data_dir, data_dir / "secret.key") if _is_open(path)]
    for path in open_to_all:
        yield warning(DATA_DIR, f"Others than its owner may use {path}.", f"chmod go= {path}")
    if not open_to_all:
        yield well(DATA_DIR, f"{data_dir} is its owner's alone.")


def examine_spool(folder: Path) -> Iterator[Finding]:
    """Tell whether what cannot be settled now would be safe on disk, and what waits there."""
    try:
        _sync_something(folder if folder.is_dir() else _existing(folder))
    except OSError as failure:
        advice = "What Redis and SQL do not take waits here: make room, or set GLM_GATEWAY_DATA_DIR to another disk."
        yield wrong(SPOOL, f"{folder} takes nothing: {failure.strerror}.", advice)
        return
    damaged, waiting = len(list(folder.glob("*.damaged"))), len(list(folder.glob("*.json")))
    if damaged:
        said = f"{folder} holds {damaged} settlements that cannot be read."
        yield warning(SPOOL, said, "Look at *.damaged: their lines are not in the ledger.")
    if waiting:
        said = f"{waiting} settlements wait in {folder}."
        yield warning(
            SPOOL, said, "A gateway with this data directory makes them: start one, and see that Redis is up."
        )
    if not damaged + waiting:
        yield well(SPOOL, f"{folder} is written and synced; nothing waits there.")


def examine_files(most_jobs: int, calls: int) -> Finding:
    """Tell whether so many jobs, each with its client, and so many calls upstream find files enough."""
    allowed, needed = resource.getrlimit(resource.RLIMIT_NOFILE)[0], most_jobs + 2 * calls + SPARE_FILES
    if allowed == resource.RLIM_INFINITY:
        return well(FILES, "Any number may be open.")
    if allowed >= needed:
        return well(FILES, f"{allowed} may be open.")
    advice = f"Raise the limit (ulimit -n {needed}, LimitNOFILE={needed} in systemd), or lower queue.max_jobs."
    return warning(FILES, f"{allowed} may be open; queue.max_jobs = {most_jobs} may need {needed}.", advice)


def _is_open(path: Path) -> bool:
    return path.exists() and bool(path.stat().st_mode & OTHERS_MAY)


def _existing(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.exists())


def _sync_something(folder: Path) -> None:
    path = folder / f".doctor-{secrets.token_hex(8)}"
    try:
        with path.open("wb") as file:
            file.write(b"ok")
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)
