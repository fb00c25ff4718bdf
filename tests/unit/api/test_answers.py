"""The bodies and headers of answers: exact in length, valid in form, whatever the pictures and names are."""

import asyncio
import base64
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.answers import HEARTBEAT, JsonAnswer, change_headers, comment, completed_event, error_event
from gateway.domain.image import Change, ContentWarning
from tests.builders import a_delivery, a_plan, an_order

USAGE = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "output_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
WORD = r"[A-Za-z0-9_.x-]+"
CHANGE = rf"{WORD}(={WORD}->{WORD})?"
CHANGED = re.compile(rf"{CHANGE}(,{CHANGE})*")

warnings = st.lists(st.builds(ContentWarning, role=st.text(max_size=10), level=st.integers(0, 3)), max_size=2).map(
    tuple
)
pictures = st.builds(
    a_delivery,
    content=st.binary(max_size=100),
    media=st.sampled_from(["png", "jpeg", "webp"]),
    size=st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    url=st.text(max_size=60),
    warnings=warnings,
)
changes = st.lists(
    st.builds(Change, name=st.text(max_size=80), before=st.text(max_size=80), after=st.text(max_size=80)), max_size=30
).map(tuple)
orders = st.builds(
    an_order,
    plan=st.sampled_from(["hd", "standard"]).map(lambda quality: a_plan(quality=quality)),
    n=st.integers(1, 10),
    response_format=st.sampled_from(["url", "b64_json"]),
    changes=changes,
)
echoes = st.one_of(st.just({}), st.builds(lambda text: {"safety_identifier": text}, st.text(max_size=50)))


def taken(pieces):
    """What an asynchronous iterator gives that never has to wait."""

    async def take():
        return [piece async for piece in pieces]

    with asyncio.Runner() as runner:
        return runner.run(take())


def written(**changes):
    answer = JsonAnswer(**{"order": an_order(), "created": 1_795_000_000, "echo": {}, **changes})
    content, headers = b"".join(taken(answer.pieces())), answer.headers()
    assert len(content) == answer.length
    assert answer.whole() == (None if answer.order.response_format == "b64_json" else content)
    return json.loads(content), headers


@given(order=orders, made=st.lists(pictures, min_size=1, max_size=4), echo=echoes, created=st.integers(0, 2**40))
def test_the_body_is_as_long_as_its_header_says_and_says_what_was_made(order, made, echo, created):
    body, headers = written(order=order, pictures=made, echo=echo, created=created)
    assert body["created"] == created
    if order.response_format == "url":
        assert body["data"] == [{"url": one.url} for one in made]
    else:
        assert body["data"] == [{"b64_json": base64.b64encode(one.content.held).decode()} for one in made]
    assert body["size"] == made[0].picture.size == headers["x-glm-size"]
    assert body["output_format"] == made[0].content.file.media
    assert body["quality"] == {"hd": "high", "standard": "medium"}[order.plan.quality]
    assert (body["background"], body["usage"]) == ("opaque", USAGE)
    said = [{"role": one.role, "level": one.level} for picture in made for one in picture.picture.paid.warnings]
    assert body.get("content_filter") == (said or None)
    assert {name: body[name] for name in echo} == echo
    known = {"created", "data", "size", "output_format", "quality", "background", "usage", "content_filter"}
    assert set(body) <= known | {"safety_identifier"}


@pytest.mark.parametrize("length", range(7))
def test_base64_is_padded_and_unbroken(length):
    body, _ = written(pictures=[a_delivery(b"\xff" * length)])
    text = body["data"][0]["b64_json"]
    assert base64.b64decode(text, validate=True) == b"\xff" * length


def test_a_piece_at_a_time_is_written():
    """Ten pictures of 2 MB in base64 at once would be 28 MB for each client."""
    made = [a_delivery(b"x" * 2_000_000) for _ in range(4)]
    answer = JsonAnswer(order=an_order(n=4), created=1, pictures=made, echo={})
    pieces = taken(answer.pieces())
    assert max(map(len, pieces)) <= 256 * 1024
    assert sum(map(len, pieces)) > 8_000_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((), None),
        ((Change(name="style"),), "style"),
        ((Change(name="size", before="1920x1080", after="1920x1088"),), "size=1920x1080->1920x1088"),
        ((Change(name="style"), Change(name="quality", before="low", after="hd")), "quality=low->hd,style"),
        ((Change(name="seed"), Change(name="seed")), "seed"),
        ((Change(name="a b\r\nx: y,=>"),), "a_b__x__y___"),
        ((Change(name="\u540d"), Change(name="")), "_"),
        ((Change(name="size", before="a,b", after="c->d"),), "size=a_b->c-_d"),
    ],
)
def test_changes_are_said_in_a_header(changes, said):
    headers = change_headers(changes)
    assert headers == ({"x-glm-changed": said} if said else {})


@given(changes=changes, n=st.integers(1, 10), made=st.integers(1, 10))
def test_the_header_of_changes_is_always_sound(changes, n, made):
    made = min(n, made)
    _, headers = written(order=an_order(n=n, changes=changes), pictures=[a_delivery()] * made)
    said = headers.get("x-glm-changed")
    if said is None:
        assert changes == ()
        assert made == n
        return
    assert CHANGED.fullmatch(said)
    words = said.split(",")
    assert words == sorted(set(words))
    assert len(words) <= 20
    assert len(said) < 5000


@pytest.mark.parametrize(("n", "made", "said"), [(3, 2, "n=3->2"), (10, 1, "n=10->1"), (2, 2, None)])
def test_pictures_that_are_missing_are_said(n, made, said):
    _, headers = written(order=an_order(n=n), pictures=[a_delivery()] * made)
    assert headers.get("x-glm-changed") == said


def test_pictures_that_are_missing_are_said_before_anything_else_is_left_out():
    """`at most 20; includes n=3->2`: what was ordered and not made matters more than the 20th unknown name."""
    ignored = tuple(Change(name=f"a{number:02}") for number in range(30))
    _, headers = written(order=an_order(n=3, changes=ignored), pictures=[a_delivery()] * 2)
    words = headers["x-glm-changed"].split(",")
    assert len(words) == 20
    assert "n=3->2" in words


@given(order=orders, picture=pictures, echo=echoes)
def test_an_event_is_one_line_of_json(order, picture, echo):
    event = b"".join(taken(completed_event(order, 1_795_000_000, picture, echo)))
    head, data, *rest = event.split(b"\n")
    assert head == b"event: image_generation.completed"
    assert rest == [b"", b""]
    body = json.loads(data.removeprefix(b"data: "))
    assert body["type"] == "image_generation.completed"
    assert base64.b64decode(body["b64_json"], validate=True) == picture.content.held
    assert "url" not in body
    assert (body["created_at"], body["size"], body["usage"]) == (1_795_000_000, picture.picture.size, USAGE)
    assert (body["background"], body["output_format"]) == ("opaque", picture.content.file.media)
    assert body["quality"] in {"high", "medium"}
    assert {name: body[name] for name in echo} == echo


@given(message=st.text(), code=st.none() | st.text())
def test_an_error_event_is_one_that_every_sdk_raises(message, code):
    error = {"message": message, "type": "server_error", "param": None, "code": code}
    head, data, *rest = error_event({"error": error}).split(b"\n")
    assert head == b"event: error"
    assert rest == [b"", b""]
    assert json.loads(data.removeprefix(b"data: ")) == {"type": "error", "error": error}


def test_a_heartbeat_is_a_comment():
    """SDKs fail on an event without data (openai-images-api.md section 1.4)."""
    assert HEARTBEAT.startswith(b":")
    assert HEARTBEAT.endswith(b"\n\n")


@given(text=st.text() | st.sampled_from(["two\nlines", "two\r\nlines", "\rdata: {}", "\n\nevent: error\ndata: {}"]))
def test_a_comment_stays_one_whatever_it_says(text):
    """A reader of events ends its lines at a carriage return as well."""
    written = comment(text).decode()
    assert written.endswith("\n\n")
    first, *rest = re.split(r"\r\n|\n|\r", written)
    assert first.startswith(":")
    assert rest == ["", ""]
