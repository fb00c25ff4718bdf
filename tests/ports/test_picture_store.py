"""The picture store holds on disk and on S3 what its port promises."""

import asyncio
import io
import os
import resource
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

from gateway.adapters.store import picture_store
from gateway.adapters.store.objects import Bucket, Disk
from gateway.adapters.store.picture_store import ObjectPictureStore, key_of
from gateway.domain.image import Rendition
from gateway.domain.picture_urls import PictureFile
from gateway.service.picture_ports import PictureGone, PictureStoreDown
from tests.builders import an_image, image_file
from tests.fakes import FakeObserver
from tests.fakes_store import FakeDownload
from tests.s3_server import SECRET_KEY, s3_server

pytestmark = pytest.mark.anyio
FUTURE = datetime(9999, 1, 1, tzinfo=UTC)
JPEG = Rendition(media="jpeg", compression=80)


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        server.make_bucket("pictures")
        yield server


@pytest.fixture
def bucket(s3, monkeypatch, tmp_path):
    """The settings of a bucket in the environment, and a prefix of this test's own in it."""
    for name, value in s3.env.items():
        monkeypatch.setenv(name, value)
    return lambda: Bucket("pictures", tmp_path.name)


@pytest.fixture
def disk(tmp_path):
    return lambda: Disk(tmp_path / "store", room=0)


@pytest.fixture(params=["disk", "bucket"])
def open_objects(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def shop(open_objects):
    return Shop(open_objects())


@pytest.fixture
def disk_shop(disk):
    return Shop(disk())


class Shop:
    """A store over objects, and what it told its observer."""

    def __init__(self, objects):
        self.observer = FakeObserver()
        self.objects = objects
        self.store = ObjectPictureStore(objects, self.observer)

    async def keep(self, content, media="png", folder=None):
        return await self.store.put(FakeDownload(content, media, folder))

    async def has(self, image):
        try:
            return await whole(await self.store.open(image)) is not None
        except PictureGone:
            return False

    def failures(self):
        return [operation for operation, _ in self.observer.all("store_failed")]


async def whole(stored, *part):
    return b"".join([chunk async for chunk in stored.chunks(*part)])


@pytest.mark.parametrize("filed", [True, False], ids=["from a file", "from memory"])
@pytest.mark.parametrize("size", [1, 98_304, 98_305, 2_000_003, 12_000_000])
async def test_what_is_put_is_there_whole_and_in_parts(shop, tmp_path, filed, size):
    content = os.urandom(size)
    image = await shop.keep(content, folder=tmp_path if filed else None)
    assert image == an_image(content)
    stored = await shop.store.open(image)
    assert (stored.length, str(stored.file)) == (size, f"{image.name}.png")
    for start, end in ((0, None), (size // 3, None), (size // 3, size // 2), (size - 1, size), (1, 1)):
        assert await whole(stored, start, end) == content[start:end]
    assert all([len(chunk) % 3 == 0 async for chunk in stored.chunks(0, size - size % 3)])


async def test_a_picture_of_another_process_is_found(shop, open_objects):
    image = await shop.keep(b"fox")
    other = Shop(open_objects())
    assert await whole(await other.store.open(image)) == b"fox"
    assert await whole(await other.store.find(PictureFile.of(image, None))) == b"fox"


async def test_what_is_not_there_is_a_miss_and_no_failure(shop):
    image = an_image(os.urandom(9))
    for rendition in (None, JPEG):
        with pytest.raises(PictureGone):
            await shop.store.open(image, rendition)
    assert shop.store.usable()
    assert shop.failures() == []


async def test_many_pictures_at_once(shop, tmp_path):
    contents = [os.urandom(100_000) for _ in range(64)]
    images = await asyncio.gather(*(shop.keep(content, folder=tmp_path) for content in contents))
    stored = await asyncio.gather(*map(shop.store.open, images))
    assert await asyncio.gather(*map(whole, stored)) == contents


# Renditions


async def test_a_rendition_is_made_once_and_remembered(shop, open_objects, monkeypatch):
    conversions = count_conversions(monkeypatch)
    image = await shop.keep(image_file(size=(640, 480)))
    stored = await asyncio.gather(*(shop.store.open(image, JPEG) for _ in range(10)))
    contents = set(await asyncio.gather(*map(whole, stored)))
    later = await Shop(open_objects()).store.open(image, JPEG)
    assert {await whole(later)} == contents
    assert len(conversions) == 1
    with Image.open(io.BytesIO(contents.pop())) as picture:
        assert (picture.format, picture.size) == ("JPEG", (640, 480))
    assert str(later.file) == f"{image.name}-80.jpg"
    assert await whole(await shop.store.open(image)) == image_file(size=(640, 480))


async def test_a_conversion_goes_on_when_the_first_who_asked_leaves(shop, monkeypatch):
    conversions = count_conversions(monkeypatch, seconds=0.3)
    image = await shop.keep(image_file())
    first = asyncio.create_task(shop.store.open(image, JPEG))
    second = asyncio.create_task(shop.store.open(image, JPEG))
    async with asyncio.timeout(30):
        await conversions.begun.wait()
    first.cancel()
    assert (await second).file.media == "jpeg"
    assert len(conversions) == 1


async def test_a_rendition_that_was_deleted_is_made_again(shop):
    image = await shop.keep(image_file())
    first = await shop.store.open(image, JPEG)
    content = await whole(first)
    await shop.objects.sweep(FUTURE, lambda key: key.endswith(".jpg"))
    assert await whole(await shop.store.find(first.file)) == content


async def test_what_cannot_be_converted_is_given_as_it_was_made(shop):
    broken = b"\x89PNG\r\n\x1a\n and nothing that Pillow understands"
    image = await shop.keep(broken)
    stored = await shop.store.open(image, JPEG)
    assert (await whole(stored), stored.file.media) == (broken, "png")
    assert shop.failures() == ["convert"]
    assert shop.store.usable()


async def test_no_more_conversions_run_at_once_than_the_pool_has_room_for(shop, monkeypatch):
    conversions = count_conversions(monkeypatch, seconds=0.1)
    image = await shop.keep(image_file())
    await asyncio.gather(*(shop.store.open(image, Rendition(media="webp", compression=q)) for q in range(8)))
    assert len(conversions) == 8
    assert max(conversions) <= picture_store.CONVERSIONS_AT_ONCE


# Retention


async def test_the_old_is_deleted_and_the_young_is_kept(shop):
    image = await shop.keep(image_file())
    await shop.store.open(image, JPEG)
    await shop.store.sweep(datetime.now(UTC) - timedelta(days=1))
    assert await shop.has(image)
    await shop.store.sweep(FUTURE)
    assert not await shop.has(image)
    assert [key async for key in keys(shop)] == []


async def test_the_same_bytes_again_are_young_again(shop):
    image = await shop.keep(b"fox")
    await asyncio.sleep(1.1)  # S3 tells whole seconds
    between = datetime.now(UTC)
    await asyncio.sleep(1.1)
    other = await shop.keep(b"owl")
    assert await shop.keep(b"fox") == image
    await shop.store.sweep(between)
    assert await shop.has(image)
    assert await shop.has(other)


async def test_a_picture_renewed_while_it_is_swept_stays(disk_shop, tmp_path):
    image = await disk_shop.keep(b"fox")
    path = tmp_path / "store" / key_of(PictureFile.of(image, None))
    os.utime(path, (1, 1))

    def renewed(_):
        path.write_bytes(b"fox")  # between the look at the list and the deletion
        return True

    await disk_shop.objects.sweep(datetime.now(UTC) - timedelta(hours=1), renewed)
    assert await disk_shop.has(image)


async def test_what_is_not_ours_is_never_deleted(shop):
    names = ["report.pdf", "ab/cd", f"aa/{'b' * 64}", f"aa/{'a' * 64}.bak", f"x/aa/{'a' * 64}"]
    for name in names:
        await shop.objects.put(name, b"precious", "text/plain")
    await shop.store.sweep(FUTURE)
    assert sorted([key async for key in keys(shop)]) == sorted(names)


# Trouble


async def test_a_store_that_can_be_used_says_so(shop):
    await shop.store.probe()
    assert shop.store.usable()
    assert shop.failures() == []


async def test_a_disk_that_is_gone_is_noticed_and_its_return_as_well(disk_shop, tmp_path):
    image = await disk_shop.keep(b"fox")
    folder = tmp_path / "store"
    folder.rename(tmp_path / "away")
    folder.write_text("not a folder")
    await disk_shop.store.probe()
    assert not disk_shop.store.usable()
    for work in (disk_shop.keep(b"owl"), disk_shop.store.open(image)):
        with pytest.raises(PictureStoreDown):
            await work
    assert disk_shop.failures() == ["probe", "put", "read"]
    folder.unlink()
    (tmp_path / "away").rename(folder)
    await disk_shop.store.probe()
    assert disk_shop.store.usable()
    assert await disk_shop.has(image)


@contextmanager
def largest_file(size):
    """Let this process write no larger files: what a full disk does in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_fills_up_in_the_middle_keeps_nothing_half_written(disk_shop, tmp_path):
    content = os.urandom(3_000_000)
    with largest_file(1_500_000), pytest.raises(PictureStoreDown, match="too large"):
        await disk_shop.keep(content)
    assert not disk_shop.store.usable()
    assert disk_shop.failures() == ["put"]
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
    assert await disk_shop.has(await disk_shop.keep(content))


async def test_a_rendition_that_cannot_be_kept_is_given_all_the_same(disk_shop):
    image = await disk_shop.keep(image_file(size=(640, 480)))
    with largest_file(100):
        stored = await disk_shop.store.open(image, JPEG)
    assert (await whole(stored)).startswith(b"\xff\xd8")
    assert stored.length > 100
    assert disk_shop.failures() == ["put"]


async def test_a_file_cut_short_is_a_miss(disk_shop, tmp_path):
    """As a power cut leaves it where nobody synced."""
    image = await disk_shop.keep(image_file())
    path = tmp_path / "store" / key_of(PictureFile.of(image, None))
    path.write_bytes(path.read_bytes()[:-20])
    for rendition in (None, JPEG):
        with pytest.raises(PictureGone):
            await disk_shop.store.open(image, rendition)


async def test_a_nearly_full_disk_counts_as_full(tmp_path):
    shop = Shop(Disk(tmp_path, room=1 << 60))
    await shop.store.probe()
    assert not shop.store.usable()


async def test_what_a_crash_left_half_written_goes_when_it_is_old(disk_shop, tmp_path):
    await disk_shop.keep(b"fox")
    staging = tmp_path / "store" / "staging"
    for name, age in (("old", 7200), ("old#1", 7200), ("young", 0)):
        (staging / name).write_bytes(b"half")
        os.utime(staging / name, (time.time() - age,) * 2)
    await disk_shop.store.sweep(datetime.now(UTC) - timedelta(days=1))
    assert [path.name for path in staging.iterdir()] == ["young"]


async def test_s3_with_a_wrong_secret_is_down_and_the_secret_is_not_told(bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY + "x")
    shop = Shop(bucket())
    await shop.store.probe()
    assert not shop.store.usable()
    [(_, reason)] = shop.observer.all("store_failed")
    assert "PermissionDenied" in reason
    assert SECRET_KEY not in reason


async def test_s3_that_cannot_be_reached_is_down(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    shop = Shop(bucket())
    with pytest.raises(PictureStoreDown):
        await shop.keep(b"fox")
    with pytest.raises(PictureStoreDown):
        await shop.store.open(an_image(b"fox"))
    assert not shop.store.usable()


async def keys(shop):
    """Every key that the store lists."""
    seen = []
    await shop.objects.sweep(FUTURE, lambda key: seen.append(key) is not None)
    for key in seen:
        yield key


class Conversions(list):
    """A number for each conversion that began; `begun` is set by the first."""

    def __init__(self):
        super().__init__()
        self.begun = asyncio.Event()


def count_conversions(monkeypatch, seconds=0.0):
    """Remember for each conversion how many ran when it began."""
    running, began, convert = [], Conversions(), picture_store.in_thread

    async def counted(*words):
        running.append(words)
        began.append(len(running))
        began.begun.set()
        try:
            await asyncio.sleep(seconds)
            return await convert(*words)
        finally:
            running.remove(words)

    monkeypatch.setattr(picture_store, "in_thread", counted)
    return began
