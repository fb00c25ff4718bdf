"""What a process and its children cost: CPU in nanoseconds as the scheduler counts them, and memory."""

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.05
PAGE = os.sysconf("SC_PAGE_SIZE")
MEGABYTE = 1024 * 1024


def tree(pid):
    """Give a process and all its descendants."""
    root = psutil.Process(pid)
    return [root.pid, *(child.pid for child in root.children(recursive=True))]


def cpu_seconds(pid):
    """Add up what all threads of the tree have run so far."""
    return sum(map(_nanoseconds, tree(pid))) / 1e9


def rss_megabytes(pids):
    """Add up the resident memory of processes."""
    return sum(map(_pages, pids)) * PAGE / MEGABYTE


class Peak:
    """The least and the most memory that a tree had while it was watched."""

    def __init__(self, pids):
        self.base = self.most = rss_megabytes(pids)

    @property
    def growth(self):
        return self.most - self.base


@asynccontextmanager
async def watching(pid):
    """Watch a tree's memory, every 50 ms, while the block runs."""
    pids = tree(pid)
    peak = Peak(pids)

    async def watch():
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            peak.most = max(peak.most, rss_megabytes(pids))

    task = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        task.cancel()


def _nanoseconds(pid):
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # it has ended meanwhile
            total += int((thread / "schedstat").read_text().split()[0])
    return total


def _pages(pid):
    with suppress(FileNotFoundError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return 0
