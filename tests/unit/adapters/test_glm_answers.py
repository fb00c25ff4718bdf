"""Answers in every form that HTTP/1.1 knows, split anywhere, and those that are none."""

import asyncio
import tracemalloc

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.glm.transport import HttpTransport
from gateway.adapters.glm.transport.answer import MOST_FIELDS, MOST_HEAD_BYTES, Answer
from tests.fakes import answering, head, serving
from tests.wires import NOTHING_WAS_SENT, a_post, send

pytestmark = pytest.mark.anyio

WHOLE = head("200 OK", 2) + b"ok"
OLD = WHOLE.replace(b"/1.1", b"/1.0")
CHUNKED = head("200 OK", None, "Transfer-Encoding: chunked")
INTERIM = head("100 Continue") + head("103 Early Hints", None, "Link: </a>; rel=preload")
# Each with its status and body, and whether the connection may carry another request.
ANSWERS = {
    "a length": (WHOLE, 200, b"ok", True),
    "nothing": (head("200 OK", 0), 200, b"", True),
    "chunks": (CHUNKED + b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, b"ok", True),
    "extensions and trailers": (CHUNKED + b"2;x=y\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", 200, b"ok", True),
    "no content": (head("204 No Content"), 204, b"", True),
    "not modified": (head("304 Not Modified", 99), 304, b"", True),
    "interim answers": (INTERIM + WHOLE, 200, b"ok", True),
    "an error": (head("429 Too Many Requests", 2) + b"ok", 429, b"ok", True),
    "1.0 that keeps": (OLD.replace(b"OK\r\n", b"OK\r\nConnection: keep-alive\r\n"), 200, b"ok", True),
    "1.0": (OLD, 200, b"ok", False),
    "a close": (head("200 OK", 2, "Connection: close") + b"ok", 200, b"ok", False),
    "a second answer": (WHOLE + WHOLE, 200, b"ok", False),
    "half a second answer": (WHOLE + b"HTT", 200, b"ok", False),
    "too long a body": (WHOLE + b"!", 200, b"ok", False),
    "a body where none is": (head("204 No Content") + b"ok", 204, b"", False),
}
UNTIL_CLOSE = {
    "1.0": head("200 OK").replace(b"/1.1", b"/1.0") + b"ok",
    "1.1": head("200 OK") + b"ok",
    "another coding": head("200 OK", None, "Transfer-Encoding: gzip") + b"ok",
}
PROTOCOL = httpx.RemoteProtocolError
NONE = {
    "garbage": b"\x00\xff" * 40,
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "too many fields": head("200 OK", 0, *(f"x{number}: y" for number in range(MOST_FIELDS))),
    "a field too long": head("200 OK", 0, "x: " + "y" * MOST_HEAD_BYTES),
    "a status too long": b"HTTP/1.1 200 " + b"K" * (MOST_HEAD_BYTES * 2),
    "another protocol from now on": head("101 Switching Protocols", None, "Upgrade: h2c", "Connection: Upgrade"),
    "status 0": head("000 Nothing", 0),
    "length and chunks": head("200 OK", 2, "Transfer-Encoding: chunked") + b"2\r\nok\r\n0\r\n\r\n",
    "two lengths": head("200 OK", 2, "Content-Length: 3") + b"ok",
    "a negative length": head("200 OK", -2) + b"ok",
    "interim answers without end": head("100 Continue") * 4000,
    "a trailer without end": CHUNKED + b"2\r\nok\r\n0\r\nx: " + b"y" * (MOST_HEAD_BYTES * 4),
    "an extension without end": CHUNKED + b"2;" + b"y" * (MOST_HEAD_BYTES * 4),
    "trailers without number": CHUNKED + b"2\r\nok\r\n0\r\n" + b"x: y\r\n" * (MOST_FIELDS + 1),
}


@pytest.fixture
async def transport():
    transport = HttpTransport()
    yield transport
    await transport.aclose()


@pytest.mark.parametrize("what", ANSWERS)
async def test_an_answer_and_whether_its_connection_is_kept(transport, what):
    content, status, body, kept = ANSWERS[what]
    async with serving(answering(content)) as server:
        for _ in range(3):
            response, found = await send(transport, a_post(server.url))
            assert (response.status_code, found) == (status, body)
            await asyncio.sleep(0.01)
        assert server.connections == (1 if kept else 3)


@pytest.mark.parametrize("what", UNTIL_CLOSE)
async def test_a_body_may_end_with_its_connection(transport, what):
    async with serving(answering(UNTIL_CLOSE[what], "close")) as server:
        assert (await send(transport, a_post(server.url)))[1] == b"ok"
        assert (await send(transport, a_post(server.url)))[1] == b"ok"
        assert server.connections == 2


@pytest.mark.parametrize("length", [0, 1000])
async def test_an_answer_to_head_has_no_body(transport, length):
    async with serving(answering(head("200 OK", length))) as server:
        for _ in range(2):
            response, body = await send(transport, httpx.Request("HEAD", server.url))
            assert (response.headers["content-length"], body) == (str(length), b"")
        assert server.connections == 1


async def test_headers_come_as_they_were_sent(transport):
    async with serving(answering(head("200 OK", 0, "Empty:", "Two: a", "two: b", "Latin: \xe9"))) as server:
        response, _ = await send(transport, a_post(server.url))
    assert response.headers.raw[:3] == [(b"Empty", b""), (b"Two", b"a"), (b"two", b"b")]
    assert response.headers.get_list("two") == ["a", "b"]


@pytest.mark.parametrize("what", NONE)
async def test_what_is_no_answer_is_told_at_once_and_never_as_not_sent(transport, what):
    async with serving(answering(NONE[what])) as server:
        with pytest.raises(PROTOCOL) as failed:
            await send(transport, a_post(server.url))
        assert not isinstance(failed.value, NOTHING_WAS_SENT)
        assert len(server.requests) == 1


async def test_fields_behind_a_body_are_not_headers(transport):
    async with serving(answering(ANSWERS["extensions and trailers"][0])) as server:
        response, _ = await send(transport, a_post(server.url))
    assert "x-sum" not in response.headers


class Wire:
    """Says nothing: what comes is fed by hand."""

    closed = False

    def close(self):
        self.closed = True

    def expect(self):
        pass

    resume = expect


async def read(pieces, *, closes):
    answer = Answer(Wire(), "POST")
    for piece in pieces:
        answer.feed(piece)
    if closes:
        answer.end()
    await answer.head()
    return answer.status, answer.headers, b"".join([piece async for piece in answer])


def read_now(pieces, *, closes):
    """Run it by hand: nothing of it waits."""
    run = read(pieces, closes=closes)
    with pytest.raises(StopIteration) as ended:
        run.send(None)
    return ended.value.value


splits = st.lists(st.integers(0, 400), max_size=12).map(sorted)
forms = st.sampled_from([*(answer for answer, *_ in ANSWERS.values()), *UNTIL_CLOSE.values()])


@given(content=forms, splits=splits)
def test_it_does_not_matter_where_an_answer_is_split(content, splits):
    pieces = [content[start:end] for start, end in zip([0, *splits], [*splits, len(content)], strict=True)]
    closes = content in UNTIL_CLOSE.values()
    assert read_now(pieces, closes=closes) == read_now([content], closes=closes)


@given(content=forms, end=st.integers(0, 400))
def test_a_part_of_an_answer_is_never_taken_for_the_whole(content, end):
    """Where a length is told, that is: else the close is the end."""
    whole = read_now([content], closes=True)
    try:
        part = read_now([content[:end]], closes=True)
    except PROTOCOL:
        return
    assert part == whole or (content in UNTIL_CLOSE.values() and whole[2].startswith(part[2]))


@given(content=st.binary(max_size=300) | st.builds(lambda form, at, byte: form[:at] + byte + form[at:], forms,
       st.integers(0, 200), st.binary(min_size=1, max_size=3)))  # fmt: skip
def test_whatever_comes_is_an_answer_or_an_error(content):
    try:
        status, _, _ = read_now([content], closes=True)
    except PROTOCOL:
        return
    assert 200 <= status <= 999


async def test_a_body_without_end_in_small_chunks_is_read_in_little_memory(transport):
    async def stream(_, writer):
        writer.write(CHUNKED)
        for _ in range(200):
            writer.write(b"1\r\nx\r\n" * 5000)
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with serving(stream) as server:
        response = await transport.handle_async_request(a_post(server.url))
        tracemalloc.start()
        try:
            assert sum([len(piece) async for piece in response.stream]) == 1_000_000
            assert tracemalloc.get_traced_memory()[1] < 16_000_000
        finally:
            tracemalloc.stop()
