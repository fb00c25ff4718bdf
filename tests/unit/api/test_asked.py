"""What the headers of a generation say about caching and repetition."""

import hashlib

import pytest
from litestar.testing import RequestFactory

from gateway.api.asked import asked_of
from gateway.api.head import head_of
from gateway.domain.errors import InvalidRequest


def asked(*headers, body=b"{}"):
    request = RequestFactory().post("/v1/images/generations")
    request.scope["headers"] = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    request.scope["request_id"] = "req_1"
    return asked_of(head_of(request.scope), body)


def test_nothing_said():
    plain = asked()
    assert (plain.request_id, plain.strict, plain.retry, plain.idempotency_key) == ("req_1", False, False, "")
    assert (plain.no_cache, plain.no_store, plain.max_age) == (False, False, None)
    assert plain.body == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize(
    ("lines", "no_cache", "no_store", "max_age"),
    [
        (["no-cache"], True, False, None),
        (["No-Store"], False, True, None),
        (["max-age=60"], False, False, 60),
        (['max-age="60"'], False, False, 60),
        (["max-age=0"], False, False, 0),
        (["no-cache", "no-store"], True, True, None),
        (["private,no-cache , max-age=3"], True, False, 3),
        (["max-age=99999999999999999999"], False, False, 2**31),
        (["max-age=" + "9" * 5000], False, False, 2**31),
        (["no-store;"], False, True, None),
        (["no-cache; no-store"], True, True, None),
        (["max-age=60;"], False, False, 60),
        (["No-Cache=1"], True, False, None),
        (['no-cache="authorization, cookie"'], True, False, None),
        # What is no number of seconds counts as 0: nothing is fresh enough (RFC 9111 section 4.2.1).
        *[([word], False, False, 0) for word in ("max-age=-1", "max-age=soon", "max-age", "max-age=", 'max-age=""')],
        *[([word], False, False, 0) for word in ("max-age=1.5", "max-age=60s", "max-age = 60", "max-age=\u00b2")],
        (["max-age=5, max-age=500"], False, False, 5),  # of several the first
        (["max-age=5", "max-age=0"], False, False, 5),
        (["", ",,", ";", "=", "=5", "no cache", "s-maxage=3, xmax-age=1, no-stores"], False, False, None),
        (['private="a, no-store, max-age=1"', '"no-cache"', 'x="max-age=2'], False, False, None),
    ],
)
def test_cache_control(lines, no_cache, no_store, max_age):
    found = asked(*(("cache-control", line) for line in lines))
    assert (found.no_cache, found.no_store, found.max_age) == (no_cache, no_store, max_age)


@pytest.mark.parametrize(("count", "retry"), [("0", False), ("1", True), ("2", True), ("x", False), ("²", False)])
def test_an_sdk_says_that_it_repeats(count, retry):
    assert asked(("x-stainless-retry-count", count)).retry is retry


def test_an_idempotency_key_is_taken_as_it_is():
    assert asked(("idempotency-key", "order 66")).idempotency_key == "order 66"


@pytest.mark.parametrize("key", ["", "  ", "x" * 256])
def test_an_idempotency_key_that_says_nothing_or_too_much_is_refused(key):
    with pytest.raises(InvalidRequest, match="Idempotency-Key"):
        asked(("idempotency-key", key))
