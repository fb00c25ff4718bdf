"""A paid picture is stored before anybody gets it, and none is paid while that cannot be done."""

import asyncio

import pytest

from gateway.domain import errors
from tests.builders import a_paid_picture
from tests.fakes import Workshop, settle

pytestmark = pytest.mark.anyio


async def test_a_picture_is_in_the_store_before_it_is_given():
    shop = Workshop(a_paid_picture("fox"))
    picture = await shop.make()
    assert shop.store.pictures == {picture.image.name: b"https://cdn.z.ai/fox.png"}
    assert picture.unstored == b""


async def test_a_picture_that_cannot_be_stored_still_reaches_who_waits_for_it():
    shop = Workshop(a_paid_picture("fox"))
    shop.store.down = True
    picture = await shop.make()
    assert picture.unstored == b"https://cdn.z.ai/fox.png"
    assert picture.size == "1280x1280"
    assert len(shop.observer.all("picture_delivered")) == 1


async def test_nothing_is_paid_while_pictures_cannot_be_kept():
    shop = Workshop()
    shop.store.known_down = True
    with pytest.raises(errors.PictureStoreUnavailable):
        await shop.make()
    assert shop.upstream.calls == []
    assert (await shop.make(linked=True)).image is None


async def test_the_store_is_looked_at_again_when_the_slot_is_there():
    """A picture may have waited for minutes."""
    shop = Workshop()
    shop.upstream.gate.clear()
    first, second = asyncio.create_task(shop.make()), asyncio.create_task(shop.make())
    await settle()
    shop.store.known_down = True
    shop.upstream.gate.set()
    assert (await first).size == "1280x1280"
    with pytest.raises(errors.PictureStoreUnavailable):
        await second
    assert len(shop.upstream.calls) == 1


async def test_what_is_only_linked_is_not_downloaded():
    shop = Workshop(a_paid_picture("fox"))
    picture = await shop.make(linked=True)
    assert (picture.paid.url, picture.image, picture.size) == ("https://cdn.z.ai/fox.png", None, "")
    assert shop.source.urls == []
