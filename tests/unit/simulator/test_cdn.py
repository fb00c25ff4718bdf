"""The host of the pictures, well-behaved and not."""

import io

import pytest
from PIL import Image

from gateway.simulator import gallery
from tests.unit.simulator.serving import SYNC, a_body

pytestmark = pytest.mark.anyio


async def a_link(client, **fields):
    return (await client.post(SYNC, json=a_body(size="512x512", **fields))).json()["data"][0]["url"]


async def switch(client, **fault):
    assert (await client.post("/_simulator/faults", json=fault)).status_code == 200


async def test_a_link_names_the_address_that_was_called(simulator):
    response = await simulator.post(SYNC, json=a_body(), headers={"Host": "images.test:8443"})
    assert response.json()["data"][0]["url"].startswith("http://images.test:8443/files/")


async def test_a_link_needs_its_signature(simulator):
    link = await a_link(simulator)
    assert "UCloudPublicKey=TOKEN_" in link
    other = await a_link(simulator)
    bare = link.partition("?")[0]
    wrong = [bare, f"{bare}?{other.partition('?')[2]}", link.replace("Expires=", "Expires=9")]
    assert [(await simulator.get(url)).status_code for url in wrong] == [403, 403, 403]
    assert (await simulator.get(link)).status_code == 200
    (first, _) = (await simulator.get("/_simulator/images")).json()
    assert first["fetches"] == 4


async def test_a_link_expires(a_simulator):
    async with a_simulator(url_lifetime=-1) as client:
        assert (await client.get(await a_link(client))).status_code == 403


async def test_zais_links_are_unsigned_attachments(a_simulator):
    async with a_simulator(url_style="attachment") as client:
        link = await a_link(client)
        assert "Signature" not in link
        response = await client.get(link)
        assert response.headers["content-disposition"].startswith('attachment; filename="')
        assert response.headers["content-disposition"].endswith('_watermark.png"')


async def test_only_the_newest_pictures_keep_their_bytes(simulator, monkeypatch):
    monkeypatch.setattr(gallery, "PICTURES_WITH_BYTES", 2)
    links = [await a_link(simulator) for _ in range(3)]
    assert [(await simulator.get(link)).status_code for link in links] == [404, 200, 200]
    assert len((await simulator.get("/_simulator/images")).json()) == 3


async def test_a_picture_may_not_be_there_yet(simulator):
    link = await a_link(simulator)
    await switch(simulator, kind="not_found_then_ok", times=2)
    responses = [await simulator.get(link) for _ in range(3)]
    assert [response.status_code for response in responses] == [404, 404, 200]
    assert responses[0].json() == {"RetCode": -148654, "ErrMsg": "file not exist"}


async def test_jpeg_bytes_may_be_called_png(simulator):
    link = await a_link(simulator)
    await switch(simulator, kind="jpeg_as_png", times=1)
    response = await simulator.get(link)
    assert response.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(response.content)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (512, 512))


async def test_the_content_type_may_be_missing(simulator):
    link = await a_link(simulator)
    await switch(simulator, kind="no_content_type")
    response = await simulator.get(link)
    assert "content-type" not in response.headers
    assert response.content.startswith(b"\x89PNG")


async def test_a_link_may_be_called_expired(simulator):
    link = await a_link(simulator)
    await switch(simulator, kind="expired_signature", times=1)
    assert [(await simulator.get(link)).status_code for _ in range(2)] == [403, 200]


async def test_a_page_may_come_in_place_of_the_picture(simulator):
    link = await a_link(simulator)
    await switch(simulator, kind="not_an_image", content_type="image/png")
    response = await simulator.get(link)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert response.text.startswith("<!doctype html>")


@pytest.mark.parametrize("size", [1, 300_000, 2_000_000])
async def test_the_file_may_be_heavier(simulator, size):
    link = await a_link(simulator)
    light = (await simulator.get(link)).content
    await switch(simulator, kind="heavy", size=size)
    heavy = (await simulator.get(link)).content
    assert len(heavy) == max(size, len(light) + 12)
    with Image.open(io.BytesIO(heavy)) as one, Image.open(io.BytesIO(light)) as other:
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("declared", [True, False])
async def test_the_body_may_be_too_large(simulator, declared):
    link = await a_link(simulator)
    await switch(simulator, kind="oversize", size=300_000, declared=declared)
    response = await simulator.get(link)
    assert len(response.content) == 300_000
    assert ("content-length" in response.headers) is declared


async def test_the_picture_may_come_by_a_redirect(simulator):
    link = await a_link(simulator)
    await switch(simulator, kind="redirect")
    first = await simulator.get(link, follow_redirects=False)
    assert first.status_code == 302
    assert (await simulator.get(first.headers["location"], follow_redirects=False)).status_code == 200


async def test_a_redirect_may_lead_anywhere(simulator):
    link = await a_link(simulator)
    await switch(simulator, kind="redirect", location="http://127.0.0.1:9/inside")
    response = await simulator.get(link, follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (302, "http://127.0.0.1:9/inside")


async def test_the_bytes_may_come_slowly(simulator):
    link = await a_link(simulator)
    await switch(simulator, kind="slow_cdn", seconds=0.2)
    response = await simulator.get(link)
    assert response.content.startswith(b"\x89PNG")
    assert response.elapsed.total_seconds() > 0.15


async def test_a_fault_is_for_the_pictures_it_names(simulator):
    cat, dog = await a_link(simulator, prompt="a cat"), await a_link(simulator, prompt="a dog")
    await switch(simulator, kind="expired_signature", prompt_contains="cat")
    assert [(await simulator.get(link)).status_code for link in (cat, dog)] == [403, 200]
