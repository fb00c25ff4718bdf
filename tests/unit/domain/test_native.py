"""GLM's own words: what is documented passes unchanged, the rest is refused or ignored, and nothing is mapped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.catalog import parse_size
from gateway.domain.errors import (
    EmptyText,
    InvalidRequest,
    InvalidType,
    InvalidValue,
    MissingParameter,
    ModelNotFound,
)
from gateway.domain.image import ImageRequest
from gateway.domain.mapping import MappingRules, order_from
from gateway.domain.native import FIELDS, native_request
from gateway.settings.models import load_catalog

CATALOG = load_catalog()
STRICT = MappingRules(hash_user=str, strict=True, allow_unwatermarked=True)
PLAIN = {"model": "glm-image", "prompt": "a fox"}


def read(**more):
    return native_request({**PLAIN, **more}, CATALOG)


def test_the_six_fields_are_read_and_others_ignored():
    every = {**PLAIN, "size": "512x512", "quality": "hd", "watermark_enabled": False, "user_id": "end-user"}
    assert native_request({**every, "n": 3, "request_id": "mine", "stream": True}, CATALOG) == ImageRequest(
        prompt="a fox",
        model="glm-image",
        size="512x512",
        quality="hd",
        watermark_enabled=False,
        user="end-user",
        response_format="url",
    )


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        ({}, MissingParameter, "model"),
        ({"model": "glm-image"}, MissingParameter, "prompt"),
        ({**PLAIN, "model": ""}, EmptyText, "model"),
        ({**PLAIN, "prompt": ""}, EmptyText, "prompt"),
        ({"model": "nothing", "prompt": ""}, EmptyText, "prompt"),
        ({**PLAIN, "model": "nothing", "size": "1x1"}, ModelNotFound, "model"),
        ({**PLAIN, "prompt": ["a fox"]}, InvalidType, "prompt"),
        ({**PLAIN, "watermark_enabled": 1}, InvalidType, "watermark_enabled"),
        ({**PLAIN, "quality": "standard"}, InvalidValue, "quality"),
        ({**PLAIN, "user_id": "\U0001f600" * 5}, InvalidValue, "user_id"),
        ({**PLAIN, "user_id": "u" * 129}, InvalidValue, "user_id"),
    ],
)
def test_what_is_wrong_is_named(body, kind, param):
    with pytest.raises(InvalidRequest) as raised:
        native_request(body, CATALOG)
    assert type(raised.value) is kind
    assert raised.value.param == param


@pytest.mark.parametrize("size", ["auto", "", "512", "511x512", "513x512", "2080x512", "256x256", "1920x1080"])
def test_an_illegal_size_is_refused_with_those_that_are_legal(size):
    with pytest.raises(InvalidValue) as raised:
        read(size=size)
    assert raised.value.message.startswith("size is invalid: glm-image makes 1280x1280, 1568x1056")


@pytest.mark.parametrize("size", ["1568x1056", "1568\u00d71056", " 1568 X 1056 ", "1568*1056"])
def test_a_legal_size_may_be_spelled_as_the_documentation_prints_it(size):
    assert order_from(read(size=size), CATALOG, STRICT).plan.size == "1568x1056"


words = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
sizes = st.builds(lambda width, height: f"{width}x{height}", st.integers(500, 2100), st.integers(500, 2100))


@given(
    model=st.sampled_from([*CATALOG.models, "dall-e-3"]),
    size=sizes | st.integers(16, 64).map(lambda side: f"{side * 32}x512"),
    quality=st.sampled_from(["hd", "standard", "high"]),
    others=st.dictionaries(st.text(max_size=8).filter(lambda name: name not in FIELDS), words, max_size=3),
)
def test_what_passes_is_made_as_it_was_asked_for(model, size, quality, others):
    """Under strict handling the mapping would refuse any change."""
    try:
        request = native_request({**others, **PLAIN, "model": model, "size": size, "quality": quality}, CATALOG)
    except InvalidValue:
        return
    order = order_from(request, CATALOG, STRICT)
    assert order.changes == ()
    assert (order.plan.size, order.plan.quality) == (str(parse_size(size)), quality)
