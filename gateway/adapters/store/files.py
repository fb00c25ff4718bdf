"""What the store on disk asks of the system. All but `ready` may wait for the disk, and belong into a thread."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

NOWAIT = getattr(os, "RWF_NOWAIT", 0)  # Linux alone can say that it would have to wait


class Reader:
    """Reads open files; `piece` is the most bytes of one read."""

    def __init__(self, piece: int) -> None:
        self._scratch = memoryview(bytearray(piece))

    def ready(self, opened: int, start: int, length: int) -> bytes:
        """Give bytes that are in memory already, for which no thread is needed; none when it takes the disk."""
        piece = self._scratch[:length]
        try:
            found = os.preadv(opened, [piece], start, NOWAIT) if NOWAIT else 0
        except OSError:  # they are not, or the file system cannot tell
            return b""
        return bytes(piece) if found == length else b""


def read(opened: int, start: int, length: int) -> bytes:
    """Give bytes of an open file; FileNotFoundError when it has not so many."""
    found = b""
    while len(found) < length:
        piece = os.pread(opened, length - len(found), start + len(found))
        if not piece:
            raise FileNotFoundError(f"the file ends before byte {start + length}")
        found += piece
    return found


def opened(path: Path) -> int:
    """Open a file for reading."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def keep(content: Path | bytes, draft: Path, final: Path) -> None:
    """Give content its final name once it is whole and safe from a power cut: write beside, sync, rename, sync."""
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(content, draft)
        _sync(draft)
        final.parent.mkdir(parents=True, exist_ok=True)
        draft.replace(final)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync(final.parent)


def sizes(folder: Path, names: Sequence[str]) -> list[int | OSError]:
    """Look at files of a folder: a thread for each would take 0.1 ms of CPU."""
    found: list[int | OSError] = []
    for name in names:
        try:
            found.append(os.stat(f"{folder}/{name}").st_size)  # noqa: PTH116 - a Path takes 4 us, as long as the rest
        except OSError as failure:
            found.append(failure)
    return found


def _write(content: Path | bytes, draft: Path) -> None:
    """Write a draft. A file of the same disk gets a second name, which spares 2 ms of CPU for 2 MB."""
    if isinstance(content, bytes):
        draft.write_bytes(content)
        return
    try:
        draft.hardlink_to(content)
    except OSError:  # another disk, or a file system without second names
        shutil.copyfile(content, draft)


def _sync(path: Path) -> None:
    descriptor = opened(path)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
