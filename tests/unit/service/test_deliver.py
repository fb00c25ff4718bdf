"""What a client gets of a picture: the store's bytes and a URL of ours, or the best that is left."""

from datetime import timedelta

import pytest

from gateway.domain.errors import (
    InvalidPictureUrl,
    PictureLost,
    PictureNotFound,
    PictureStoreUnavailable,
    PictureUrlExpired,
)
from gateway.domain.image import Picture, Rendition
from gateway.service.deliver import Deliver
from gateway.service.links import PictureLinks
from tests.builders import NOW, a_paid_picture, a_picture, an_order
from tests.fakes import FakeClock
from tests.fakes_store import FakeDownload, FakePictureStore

pytestmark = pytest.mark.anyio
LIFE = 3600
ORIGIN = "http://gateway:8000"


class Counter:
    """A Deliver on fakes."""

    def __init__(self, secrets=(b"secret",), public_url=""):
        self.clock = FakeClock()
        self.store = FakePictureStore()
        self.deliver = Deliver(self.store, PictureLinks(secrets, LIFE, self.clock, public_url))

    async def url(self, content=b"fox", **asked):
        await self.store.put(FakeDownload(content))
        delivery = await self.deliver.open(an_order(**asked), a_picture(content), ORIGIN)
        return delivery.url

    async def behind(self, url):
        """The bytes that a URL opens, and the seconds it has left."""
        path, _, query = url.partition("?")
        expires, signature = (word.partition("=")[2] for word in query.split("&"))
        stored, left = await self.deliver.linked(path.rpartition("/")[2], expires, signature)
        return await whole(stored), left


async def whole(stored):
    return b"".join([chunk async for chunk in stored.chunks()])


async def test_a_stored_picture_has_its_bytes_and_a_url_that_opens_them():
    counter = Counter()
    url = await counter.url(b"fox")
    assert url.startswith(f"{ORIGIN}/v1/images/files/{a_picture(b'fox').image.name}.png?expires=")
    assert f"expires={int((NOW + timedelta(seconds=LIFE)).timestamp())}&" in url
    assert await counter.behind(url) == (b"fox", LIFE)


async def test_a_public_url_goes_before_the_client_s():
    url = await Counter(public_url="https://images.example.com/glm/").url()
    assert url.startswith("https://images.example.com/glm/v1/images/files/")


async def test_a_rendition_has_a_url_of_its_own():
    counter = Counter()
    url = await counter.url(b"fox", rendition=Rendition(media="webp", compression=7))
    assert ".webp?" in url
    assert await counter.behind(url) == (b"webp 7: fox", LIFE)


async def test_a_url_expires():
    counter = Counter()
    url = await counter.url()
    counter.clock.seconds = LIFE - 1
    assert (await counter.behind(url))[1] == 1
    counter.clock.seconds = LIFE
    with pytest.raises(PictureUrlExpired):
        await counter.behind(url)


async def test_a_url_is_made_anew_each_time():
    counter = Counter()
    first = await counter.url()
    counter.clock.seconds = 10
    second = await counter.url()
    assert first != second
    assert [(await counter.behind(url))[1] for url in (first, second)] == [LIFE - 10, LIFE]


async def test_a_rotated_secret_leaves_the_urls_valid():
    old = Counter(secrets=[b"old"])
    url = await old.url()
    new = Counter(secrets=[b"new", b"old"])
    await new.url()
    assert (await new.behind(url))[0] == b"fox"
    alone = Counter(secrets=[b"new"])
    await alone.url()
    with pytest.raises(InvalidPictureUrl):
        await alone.behind(url)


@pytest.mark.parametrize(
    ("find", "put"),
    [
        ("expires=1", "expires=2"),
        ("expires=", "expires=0"),
        ("expires=", "expires=-"),
        ("expires=", "expires=+"),
        ("expires=", "expires=\u0661"),
        ("expires=", f"expires={'9' * 400}"),
        ("&signature=", "&signature=x"),
        ("&signature=", "&nothing="),
        (".png?", ".jpg?"),
        (".png?", "-90.jpg?"),
        ("/files/", "/files/0"),
    ],
)
async def test_a_changed_url_opens_nothing(find, put):
    counter = Counter()
    url = await counter.url()
    assert find in url
    changed = url.replace(find, put)
    if "nothing" in put:
        changed = changed.partition("&")[0] + "&signature="
    with pytest.raises(InvalidPictureUrl) as refused:
        await counter.behind(changed)
    assert type(refused.value) is InvalidPictureUrl  # a stranger does not learn what would have expired


async def test_the_url_of_one_picture_opens_no_other():
    counter = Counter()
    fox, owl = await counter.url(b"fox"), await counter.url(b"owl")
    stolen = fox.partition("?")[0] + "?" + owl.partition("?")[2]
    with pytest.raises(InvalidPictureUrl):
        await counter.behind(stolen)


async def test_bytes_that_are_gone_are_said_so():
    counter = Counter()
    url = await counter.url(b"fox")
    counter.store.pictures.clear()
    with pytest.raises(PictureNotFound):
        await counter.behind(url)
    with pytest.raises(PictureLost):
        await counter.deliver.open(an_order(), a_picture(b"fox"), ORIGIN)
    counter.store.down = True
    with pytest.raises(PictureStoreUnavailable):
        await counter.behind(url)
    with pytest.raises(PictureLost):
        await counter.deliver.open(an_order(), a_picture(b"fox"), ORIGIN)


@pytest.mark.parametrize("rendition", [None, Rendition(media="webp")])
async def test_what_could_not_be_stored_is_given_from_memory_and_by_the_upstream_s_url(rendition):
    counter = Counter()
    image = a_picture(b"fox").image
    picture = Picture(paid=a_paid_picture("1"), image=image, unstored=b"fox")
    delivery = await counter.deliver.open(an_order(rendition=rendition), picture, ORIGIN)
    assert delivery.url == "https://cdn.z.ai/1.png"
    assert await whole(delivery.content) == b"fox"
    assert delivery.content.file.media == "png"


async def test_what_is_only_linked_needs_no_store():
    counter = Counter()
    counter.store.down = True
    picture = Picture(paid=a_paid_picture("1"), image=None)
    delivery = await counter.deliver.open(an_order(linked=True, response_format="url"), picture, ORIGIN)
    assert (delivery.url, delivery.content) == ("https://cdn.z.ai/1.png", None)
    with pytest.raises(PictureLost):
        await counter.deliver.open(an_order(), picture, ORIGIN)


@pytest.mark.parametrize("size", [0, 1, 98_304, 98_305, 300_000])
async def test_parts_are_given_as_asked(size):
    content = bytes(range(256)) * (size // 256 + 1)
    picture = Picture(paid=a_paid_picture("1"), image=a_picture(content).image, unstored=content[:size] or b"x")
    held = (await Counter().deliver.open(an_order(), picture, ORIGIN)).content
    given = content[:size] or b"x"
    for start, end in ((0, None), (0, held.length), (held.length // 2, None), (1, held.length - 1)):
        parts = [part async for part in held.chunks(start, end)]
        assert b"".join(parts) == given[start:end]
        assert all(len(part) % 3 == 0 for part in parts[:-1])


async def test_a_picture_that_was_made_before_gets_a_new_url():
    counter = Counter()
    await counter.store.put(FakeDownload(b"fox"))
    first = await counter.deliver.link(a_picture(b"fox"), ORIGIN)
    counter.clock.seconds = 1
    assert await counter.deliver.link(a_picture(b"fox"), ORIGIN) != first
    assert await counter.behind(first) == (b"fox", LIFE - 1)


async def test_a_picture_that_was_only_passed_on_has_the_upstreams_url():
    paid = a_paid_picture("one")
    assert await Counter().deliver.link(Picture(paid=paid, image=None), ORIGIN) == paid.url


@pytest.mark.parametrize(("down", "kind"), [(False, PictureLost), (True, PictureStoreUnavailable)])
async def test_no_url_is_made_of_what_cannot_be_had(down, kind):
    counter = Counter()
    counter.store.down = down
    with pytest.raises(kind):
        await counter.deliver.link(a_picture(b"fox"), ORIGIN)
