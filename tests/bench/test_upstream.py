"""The upstream of the bench: what the gateway's adapter reads from it, and that waiting costs it no turn."""

import asyncio
import json
import time
from urllib.parse import urlsplit

import pytest

from gateway.adapters.glm.inspection import inspect
from gateway.adapters.glm.wire import PATH, read_answer
from tests import servers
from tests.bench import peers

AT_ONCE, LATENCY = 300, 0.5


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    with peers.upstream(tmp_path_factory.mktemp("upstream")) as upstream:
        yield upstream


def ask(url):
    status, headers, content = servers.http("POST", url, body={"model": "glm-image", "prompt": "a picture"})
    assert headers["Content-Type"] == "application/json"
    return status, content


def test_the_adapter_reads_a_new_picture_from_each_answer(upstream):
    read = [read_answer(*ask(upstream.base_url + PATH)) for _ in range(2)]
    assert len({picture.url for picture in read}) == 2
    assert all(picture.request_id and not picture.warnings for picture in read)


def test_openai_s_words_have_nothing_of_glm_s(upstream):
    status, content = ask(upstream.openai_url + PATH)
    body = json.loads(content)
    assert (status, set(body)) == (200, {"created", "data"})
    assert [set(picture) for picture in body["data"]] == [{"url"}]


def test_pictures_are_whole_of_two_megabytes_and_differ(upstream):
    urls = [read_answer(*ask(upstream.base_url + PATH)).url for _ in range(2)]
    contents = [servers.http("GET", url)[2] for url in urls]
    assert [inspect(content) for content in contents] == [("png", (1280, 1280))] * 2
    assert all(2_000_000 < len(content) < 2_200_000 for content in contents)
    assert contents[0] != contents[1]
    assert contents[0] == servers.http("GET", urls[0])[2]


def test_it_counts(upstream):
    before = upstream.stats()
    url = read_answer(*ask(upstream.base_url + PATH)).url
    servers.http("GET", url)
    assert upstream.stats() == {name: count + 1 for name, count in before.items()}


def test_other_paths_are_not_found(upstream):
    assert servers.http("POST", f"{upstream.url}/v1/chat/completions", body={})[0] == 404
    assert servers.http("GET", f"{upstream.url}/v1/models")[0] == 404


def test_all_wait_at_once(tmp_path):
    with peers.upstream(tmp_path, latency=LATENCY) as slow:
        began = time.monotonic()
        answers = asyncio.run(crowd(urlsplit(slow.url).port))
        spent = time.monotonic() - began
    assert all(b'"url"' in answer for answer in answers)
    assert LATENCY <= spent < AT_ONCE * LATENCY / 10


async def crowd(port):
    return await asyncio.gather(*(one(port) for _ in range(AT_ONCE)))


async def one(port):
    """Order once, on a connection that ends with the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    try:
        return await reader.read()
    finally:
        writer.close()
