"""What a process and its children cost: CPU in nanoseconds as the scheduler counts them, and memory."""

from contextlib import suppress
from pathlib import Path

import psutil

MEGABYTE = 1024 * 1024


def tree(pid: int) -> list[psutil.Process]:
    """Give a process and all its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """Add up what all threads of the tree have run so far."""
    return sum(_nanoseconds(process.pid) for process in tree(pid)) / 1e9


def rss_megabytes(pid: int) -> float:
    """Add up the resident memory of the tree."""
    return sum(process.memory_info().rss for process in tree(pid)) / MEGABYTE


def _nanoseconds(pid: int) -> int:
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # it has ended meanwhile
            total += int((thread / "schedstat").read_text().split()[0])
    return total
