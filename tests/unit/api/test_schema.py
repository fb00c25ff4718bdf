"""The body of a generation: its types, its nulls, and what is said of every other name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.schema import TYPES, UNSUPPORTED, image_request, read_body
from gateway.domain.errors import InvalidType, MalformedBody
from gateway.domain.image import ImageRequest

VALUES = {str: "text", int: 3, bool: True, float: 1.5, list: [], dict: {}}
NAMES = {
    str: "a string",
    int: "an integer",
    bool: "a boolean",
    float: "a decimal number",
    list: "an array",
    dict: "an object",
}


def read(**body):
    return image_request(read_body(json.dumps(body).encode()))


def test_every_parameter_reaches_the_request():
    body = {
        "prompt": "a fox",
        "model": "glm-image",
        "n": 2,
        "size": "1024x1024",
        "quality": "hd",
        "response_format": "url",
        "background": "opaque",
        "output_format": "webp",
        "output_compression": 80,
        "stream": True,
        "user": "me",
        "watermark_enabled": False,
    }
    assert read(**body) == ImageRequest(**body)


@pytest.mark.parametrize("name", [*TYPES, "style", "seed"])
def test_null_is_absent(name):
    assert read(**{"prompt": "a fox", name: None}) == (
        ImageRequest() if name == "prompt" else ImageRequest(prompt="a fox")
    )


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", VALUES)
def test_a_value_of_another_type_is_refused_by_name(name, kind):
    if kind is TYPES[name]:
        assert read(**{name: VALUES[kind]})
        return
    with pytest.raises(InvalidType) as failure:
        read(**{name: VALUES[kind]})
    assert failure.value.param == name
    assert f"'{name}'" in failure.value.message
    assert f"expected {NAMES[TYPES[name]]}, but got {NAMES[kind]}" in failure.value.message


@pytest.mark.parametrize(("value", "kind"), [(1.0, "decimal number"), (True, "boolean"), ("1", "string")])
def test_n_is_an_integer_and_nothing_like_it(value, kind):
    with pytest.raises(InvalidType, match=kind):
        read(n=value)


@pytest.mark.parametrize(
    ("users", "user"),
    [
        ({"user": "u"}, "u"),
        ({"safety_identifier": "s"}, "s"),
        ({"user": "u", "safety_identifier": "s"}, "s"),
        ({"user": "u", "safety_identifier": ""}, "u"),
        ({"user": "u", "safety_identifier": None}, "u"),
    ],
)
def test_the_safety_identifier_goes_before_the_user(users, user):
    assert read(**users).user == user


@pytest.mark.parametrize(
    "name",
    [
        "style",
        "moderation",
        "complexity",
        "partial_images",
        "frame_count",
        "frame_duration_ms",
        "svg",
    ],
)
@pytest.mark.parametrize("value", ["x", 1, {"model": "m"}])
def test_openais_other_parameters_are_known_and_not_supported(name, value):
    request = read(prompt="a fox", **{name: value})
    assert (request.unsupported, request.unknown) == ((name,), ())


@pytest.mark.parametrize("name", ["seed", "negative_prompt", "image", "", "user_id", "PROMPT", "\u540d"])
def test_all_other_names_are_unknown(name):
    request = read(prompt="a fox", **{name: "x"})
    assert (request.unsupported, request.unknown) == ((), (name,))


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"[]", "an array"),
        (b'"x"', "a string"),
        (b"1", "an integer"),
        (b"1.5", "a decimal number"),
        (b"true", "a boolean"),
        (b"null", "null"),
    ],
)
def test_a_body_is_an_object(content, got):
    with pytest.raises(MalformedBody, match=got):
        read_body(content)


BROKEN = {
    "nothing": b"",
    "a cut object": b'{"prompt":',
    "single quotes": b"{'prompt': 'x'}",
    "two objects": b"{}{}",
    "a trailing comma": b'{"prompt":"x",}',
    "a form": b"prompt=x",
    "not UTF-8": b'{"prompt":"\xff"}',
    "half a surrogate pair": b'{"prompt":"\\ud800"}',
    "UTF-16": '{"prompt":"x"}'.encode("utf-16"),
    "not a number": b'{"n":NaN}',
    "too large a number": b'{"n":1e999}',
    "a deep nest": b'{"a":' + b"[" * 100_000,
    "a very long number": b'{"n":' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_json_is_malformed(what):
    with pytest.raises(MalformedBody, match="JSON"):
        read_body(BROKEN[what])


values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
)
members = values | st.lists(values, max_size=2) | st.dictionaries(st.text(max_size=3), values, max_size=2)
names = st.sampled_from([*TYPES, *sorted(UNSUPPORTED)]) | st.text(max_size=8)


@given(body=st.dictionaries(names, members, max_size=8))
def test_any_object_is_a_request_or_names_a_parameter(body):
    try:
        request = read(**body)
    except InvalidType as failure:
        refused = failure.param
    else:
        refused = None
        others = {name for name, value in body.items() if value is not None} - {*TYPES}
        assert others == {*request.unsupported, *request.unknown}
        assert set(request.unsupported) <= UNSUPPORTED
    wrong = [name for name in TYPES if body.get(name) is not None and type(body[name]) is not TYPES[name]]
    assert refused == next(iter(wrong), None)


@given(content=st.binary())
def test_any_bytes_are_an_object_or_malformed(content):
    try:
        assert isinstance(read_body(content), dict)
    except MalformedBody as failure:
        said = failure.message
        assert said
