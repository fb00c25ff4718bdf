"""What the store on disk makes of what the system says."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from gateway.adapters.store import files
from gateway.adapters.store.objects import Disk
from gateway.service.picture_ports import PictureGone, PictureStoreDown
from tests import servers

KEY = "aa/" + "a" * 64
CONTENT = bytes(range(256)) * 4096  # 1 MiB: some pieces and a rest
SIZE = len(CONTENT)


@pytest.mark.parametrize("below", ["/proc", __file__], ids=["none may be made there", "a file is above it"])
def test_a_folder_that_cannot_be_made(below):
    with pytest.raises(PictureStoreDown, match=Path(below).name):
        Disk(Path(below) / "pictures", room=0)


async def whole(disk, key, start=0, end=SIZE):
    return b"".join([piece async for piece in disk.pieces(key, start, end)])


@pytest.mark.anyio
@pytest.mark.parametrize("nowait", [files.NOWAIT, 0], ids=["from memory", "by threads"])
async def test_a_file_is_read_as_it_was_written(tmp_path, monkeypatch, nowait):
    monkeypatch.setattr(files, "NOWAIT", nowait)
    disk = Disk(tmp_path, room=0)
    await disk.put(KEY, CONTENT, "image/png")
    assert await whole(disk, KEY) == CONTENT
    assert await whole(disk, KEY, 1000, 500_001) == CONTENT[1000:500_001]


@pytest.mark.anyio
async def test_who_reads_goes_on_reading_when_the_file_is_replaced_or_swept(tmp_path):
    disk = Disk(tmp_path, room=0)
    await disk.put(KEY, CONTENT, "image/png")
    pieces = disk.pieces(KEY, 0, SIZE)
    first = await anext(pieces)
    await disk.delete(KEY)
    assert first + b"".join([piece async for piece in pieces]) == CONTENT
    with pytest.raises(PictureGone):
        await whole(disk, KEY)


def open_files(folder):
    numbers = Path("/proc/self/fd").iterdir()
    return [number for number in numbers if number.is_symlink() and number.readlink().is_relative_to(folder)]


@pytest.mark.anyio
async def test_who_leaves_while_the_file_is_opened_leaves_none_open(tmp_path):
    disk = Disk(tmp_path, room=0)
    (tmp_path / KEY).parent.mkdir()
    os.mkfifo(tmp_path / KEY)  # it is open when somebody writes, and not before
    reading = asyncio.create_task(whole(disk, KEY))
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    os.close(await asyncio.to_thread(os.open, tmp_path / KEY, os.O_WRONLY))
    await asyncio.to_thread(servers.wait_until, lambda: not open_files(tmp_path), 5, "no open file")


@pytest.mark.anyio
@pytest.mark.parametrize("nowait", [files.NOWAIT, 0], ids=["from memory", "by threads"])
async def test_a_file_that_is_too_short_is_no_picture(tmp_path, monkeypatch, nowait):
    monkeypatch.setattr(files, "NOWAIT", nowait)
    disk = Disk(tmp_path, room=0)
    await disk.put(KEY, CONTENT[:-1], "image/png")
    with pytest.raises(PictureGone, match="ends before byte 1048576"):
        await whole(disk, KEY)


@pytest.mark.anyio
@pytest.mark.parametrize("linked", [True, False], ids=["one disk", "two disks"])
async def test_a_download_is_kept_though_its_file_goes(tmp_path, monkeypatch, linked):
    """And the bytes are on the disk once, where one disk has both."""

    def refused(self, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if not linked:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    disk, download = Disk(tmp_path / "store", room=0), tmp_path / "download"
    download.write_bytes(CONTENT)
    await disk.put(KEY, download, "image/png")
    assert ((tmp_path / "store" / KEY).stat().st_ino == download.stat().st_ino) is linked
    download.unlink()
    assert await whole(disk, KEY) == CONTENT


@pytest.mark.anyio
async def test_what_cannot_be_kept_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    disk = Disk(tmp_path, room=0)
    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(PictureStoreDown, match="No space left"):
        await disk.put(KEY, CONTENT, "image/png")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
