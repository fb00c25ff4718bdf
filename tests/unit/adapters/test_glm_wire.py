"""GLM's bodies: six fields out; in, whatever comes is a paid picture or a failure with a fault."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.glm.wire import read_answer, request_body
from gateway.domain.image import ContentWarning
from gateway.domain.upstream import Fault
from gateway.service.ports_upstream import CallFailed
from tests.builders import a_plan

URL = "https://maas-watermark-prod.cn-wlcb.ufileos.com/x_watermark.png?Expires=1769056179"
REQUEST_ID = "202601151228230123456789abcdef"
SUCCESS = {"created": 1768451303, "data": [{"url": URL}], "id": REQUEST_ID, "request_id": REQUEST_ID}
OVERLOAD_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx/1.21.6</body></html>"


def encoded(body):
    return json.dumps(body, ensure_ascii=False).encode()


def failure_of(status, content):
    with pytest.raises(CallFailed) as failed:
        read_answer(status, content if isinstance(content, bytes) else encoded(content))
    return failed.value.failure


@pytest.mark.parametrize(
    ("plan", "more"),
    [
        ({}, {}),
        ({"watermark": False}, {"watermark_enabled": False}),
        ({"user_id": "0123456789abcdef"}, {"user_id": "0123456789abcdef"}),
        ({"model": "cogview-4", "quality": "standard", "size": "720x1440"}, {}),
        ({"prompt": '\u4f60\u597d \U0001f600 "quoted"\\ \n \0'}, {}),
    ],
)
def test_a_body_has_documented_fields_only(plan, more):
    plan = a_plan(**plan)
    always = {"model": plan.model, "prompt": plan.prompt, "size": plan.size, "quality": plan.quality}
    assert json.loads(request_body(plan)) == {**always, **more}


@given(prompt=st.text(min_size=1), watermark=st.booleans(), user_id=st.none() | st.text(min_size=6, max_size=128))
def test_a_plan_comes_back_out_of_its_body(prompt, watermark, user_id):
    body = json.loads(request_body(a_plan(prompt=prompt, watermark=watermark, user_id=user_id)))
    assert body.keys() <= {"model", "prompt", "size", "quality", "watermark_enabled", "user_id"}
    assert body["prompt"] == prompt
    assert body.get("watermark_enabled", True) is watermark
    assert body.get("user_id") == user_id


def test_a_success():
    paid = read_answer(200, encoded(SUCCESS))
    assert (paid.url, paid.request_id, paid.warnings) == (URL, REQUEST_ID, ())


@pytest.mark.parametrize(
    ("changes", "request_id"),
    [
        ({"request_id": "r"}, "r"),
        ({"request_id": None}, REQUEST_ID),
        ({"request_id": None, "id": None}, ""),
        ({"id": 7}, REQUEST_ID),
    ],
)
def test_the_request_id_is_taken_where_it_is(changes, request_id):
    assert read_answer(200, encoded({**SUCCESS, **changes})).request_id == request_id


@pytest.mark.parametrize(
    ("content_filter", "warnings"),
    [
        (None, []),
        ([], []),
        ([{"role": "assistant", "level": 3}], [("assistant", 3)]),
        ([{"role": "user", "level": 2}, {"role": "history", "level": 3}], [("user", 2), ("history", 3)]),
        ([{"role": "user"}, 7, {"level": 1}, {"role": 1, "level": 2}, {"role": "user", "level": "3"}], []),
        ("none", []),
        ({"role": "user", "level": 3}, []),
    ],
)
def test_warnings_of_another_form_lose_no_paid_picture(content_filter, warnings):
    paid = read_answer(200, encoded({**SUCCESS, "content_filter": content_filter}))
    assert paid.warnings == tuple(ContentWarning(role=role, level=level) for role, level in warnings)


@pytest.mark.parametrize(
    ("status", "body", "fault", "code"),
    [
        (429, {"error": {"code": "1302", "message": "Rate limit reached for requests"}}, Fault.RATE, "1302"),
        (429, {"error": {"code": 1305, "message": "overloaded"}}, Fault.OVERLOADED, "1305"),
        (401, {"error": {"code": "401", "message": "token expired or incorrect"}}, Fault.ACCOUNT, "401"),
        (500, {"error": {"code": "1234", "message": "id"}, "request_id": "r"}, Fault.INTERNAL, "1234"),
        (200, {"error": {"code": "1113", "message": "no balance"}}, Fault.ACCOUNT, "1113"),
        (200, {"code": 401, "msg": "no", "success": False}, Fault.ACCOUNT, "401"),
        (200, {"code": 1000, "msg": "no", "success": False}, Fault.ACCOUNT, "1000"),
        (400, {"code": 1210, "message": "flat, as z.ai's schema has it"}, Fault.REQUEST, "1210"),
        (400, {"error": {"code": "1211", "message": "Unknown Model"}}, Fault.MODEL, "1211"),
        (400, {"error": {"code": "1214", "message": "modelCode: does not exist"}}, Fault.MODEL, "1214"),
        (400, {"error": {"code": "1214", "message": "size: not allowed"}}, Fault.REQUEST, "1214"),
        (400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}, Fault.PROMPT_TOO_LONG, "1261"),
        (400, {"error": "a text"}, Fault.REQUEST, ""),
        (429, {}, Fault.RATE, ""),
        (401, {"error": None}, Fault.ACCOUNT, ""),
    ],
)
def test_every_form_of_an_error(status, body, fault, code):
    failure = failure_of(status, body)
    assert (failure.fault, failure.code, failure.status) == (fault, code, status)


@pytest.mark.parametrize(
    ("filtered", "stage"),
    [
        ([{"level": 1, "role": "user"}], "input"),
        ([{"level": 0, "role": "assistant"}], "output"),
        ([{"level": 1, "role": "history"}], "unknown"),
        ([{"level": 1, "role": "user"}, {"level": 1, "role": "assistant"}], "unknown"),
        ([{"level": 1, "role": "user"}, {"level": 1, "role": "history"}], "input"),
        (None, "unknown"),
        ("user", "unknown"),
        ([{"role": "user"}], "unknown"),
    ],
)
def test_a_refused_content_says_where_it_was_stopped(filtered, stage):
    failure = failure_of(400, {"error": {"code": "1301", "message": "m"}, "contentFilter": filtered})
    assert failure.fault is Fault.CONTENT
    assert failure.moderation.stage == stage


NO_WORDS = {
    "nothing": b"",
    "a page": OVERLOAD_PAGE,
    "null": b"null",
    "a list": b"[]",
    "an empty object": b"{}",
    "a cut object": b'{"data":[',
    "no picture": b'{"data":[]}',
    "an empty picture": b'{"data":[{}]}',
    "an empty url": b'{"data":[{"url":""}]}',
    "a number for a url": b'{"data":[{"url":7}]}',
    "a text for a picture": b'{"data":["u"]}',
    "an object for a list": b'{"data":{"url":"u"}}',
    "base64": b'{"data":[{"b64_json":"aGk="}]}',
    "success alone": b'{"success":true}',
    "gzip": b"\x1f\x8b\x08\0",
    "latin-1": b'"\xff"',
    "GBK": '{"message":"\u4f60\u597d"}'.encode("gbk"),
    "a deep nest": b"[" * 100_000,
}


@pytest.mark.parametrize("status", [200, 500, 502, 503, 504])
@pytest.mark.parametrize("what", NO_WORDS)
def test_an_answer_without_words_of_the_upstreams_may_hide_a_paid_picture(status, what):
    failure = failure_of(status, NO_WORDS[what])
    assert (failure.fault, failure.code, failure.status) == (Fault.CUT, "", status)


def test_an_error_in_another_encoding_is_a_failed_call():
    """The texts are Chinese, and a proxy on the way may write them in GBK."""
    content = '{"error":{"code":"1301","message":"\u4f60\u597d"}}'.encode("gbk")
    assert failure_of(400, content).status == 400


def test_a_picture_in_an_answer_of_another_status_is_not_trusted():
    assert failure_of(500, SUCCESS).fault is Fault.CUT


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"error": {"code": "500", "message": "inside"}, "message": "outside"}, "inside"),
        ({"code": 500, "msg": "flat", "success": False}, "flat"),
        ({"code": 500}, '{"code": 500}'),
        (OVERLOAD_PAGE, OVERLOAD_PAGE.decode()),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ({"error": {"code": "500", "message": "m" * 10_000}}, "m" * 500),
        (OVERLOAD_PAGE * 100, (OVERLOAD_PAGE * 100)[:500].decode()),
    ],
)
def test_the_upstreams_own_text_is_kept_for_the_log_and_kept_short(body, detail):
    assert failure_of(500, body).detail == detail


NAMES = ["data", "url", "error", "code", "message", "id", "request_id", "content_filter", "contentFilter", "success"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(NAMES), children, max_size=5),
    max_leaves=12,
)
keys = st.sampled_from(
    ["data", "url", "error", "code", "message", "msg", "id", "request_id", "content_filter"]
) | st.text(max_size=5)
NAMES = ["data", "url", "error", "code", "message", "id", "request_id", "content_filter", "contentFilter", "success"]
bodies = st.dictionaries(st.sampled_from(NAMES), json_values).map(encoded)
pictures = st.dictionaries(st.sampled_from(NAMES[2:]), json_values).map(
    lambda more: encoded({**more, "data": [{"url": URL}]})
)
damaged = st.builds(
    lambda body, place, dirt: body[:place] + dirt + body[place:], pictures, st.integers(0, 200), st.binary(max_size=5)
)
cut = st.builds(lambda body, place: body[:place], pictures, st.integers(0, 200))
statuses = st.sampled_from([200, 400, 401, 429, 500, 502, 503, 504]) | st.integers(100, 599)


@given(status=statuses, content=st.binary() | bodies | pictures | damaged | cut | json_values.map(encoded))
def test_any_answer_is_a_paid_picture_or_a_failed_call(status, content):
    paid = failure = None
    try:
        paid = read_answer(status, content)
    except CallFailed as failed:
        failure = failed.failure
    if failure:
        assert isinstance(failure.fault, Fault)
        assert failure.status == status
        assert len(failure.detail) <= 500
    else:
        assert status == 200
        assert paid.url == msgspec.json.decode(content)["data"][0]["url"]


@given(content=pictures)
def test_no_other_member_of_an_answer_loses_a_paid_picture(content):
    assert read_answer(200, content).url == URL
