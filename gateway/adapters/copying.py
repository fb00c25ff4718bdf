"""Copies folders in which others write: they rename whole files into place, so each is whole or not there."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

HALVES = (".draft",)  # of the spool; the store's lie in a folder of their own
STAGING = "staging"


def copy_folder(source: Path, target: Path) -> int:
    """Copy whole files with their times, which are their ages, and give their number; what vanishes is none."""
    copied = 0
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_file() and path.suffix not in HALVES and inside.parts[0] != STAGING:
            with suppress(FileNotFoundError):
                copy_file(path, target / inside)
                copied += 1
    return copied


def copy_file(source: Path, target: Path) -> None:
    """Copy a file and see it on the disk; FileNotFoundError when it is not there any more."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy2(source, target)
    with target.open("rb") as copied:
        os.fsync(copied.fileno())
