"""Every rule by which OpenAI's words become GLM's, against the real catalog."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import errors
from gateway.domain.catalog import parse_size
from gateway.domain.image import Change, ImageRequest, Rendition
from gateway.domain.mapping import ANSWER_QUALITY, order_from
from gateway.settings.models import load_catalog
from tests.builders import a_request, hash_user, mapping_rules

CATALOG = load_catalog()
TIMES = "\u00d7"
GRIN = "\U0001f600"  # one code point, four bytes in UTF-8, two units in UTF-16


def order(*, strict=False, allow_unwatermarked=False, upstream_urls=False, **parameters):
    rules = mapping_rules(strict=strict, allow_unwatermarked=allow_unwatermarked, upstream_urls=upstream_urls)
    return order_from(a_request(**parameters), CATALOG, rules)


def test_a_bare_prompt_gives_one_picture_of_the_default_model():
    made = order()
    assert made.plan.model == "glm-image"
    assert made.plan.prompt == "a red fox in the snow"
    assert made.plan.size == "1280x1280"
    assert made.plan.quality == "hd"
    assert made.plan.watermark is True
    assert made.plan.user_id is None
    assert (made.n, made.response_format, made.stream, made.changes) == (1, "b64_json", False, ())


@pytest.mark.parametrize(
    ("asked", "model", "size", "quality"),
    [
        (None, "glm-image", "1280x1280", "hd"),
        ("glm-image", "glm-image", "1280x1280", "hd"),
        ("gpt-image-2", "glm-image", "1280x1280", "hd"),
        ("chatgpt-image-latest", "glm-image", "1280x1280", "hd"),
        ("dall-e-3", "glm-image", "1280x1280", "hd"),
        ("cogview-4-250304", "cogview-4-250304", "1024x1024", "standard"),
        ("cogview-4", "cogview-4", "1024x1024", "standard"),
        ("cogview-3-flash", "cogview-3-flash", "1024x1024", "standard"),
    ],
)
def test_models(asked, model, size, quality):
    plan = order(model=asked).plan
    assert (plan.model, plan.size, plan.quality) == (model, size, quality)


@pytest.mark.parametrize(
    "prompt",
    ["x", "a" * 1000, GRIN * 1000, "\u4f60" * 1000, "  leading and trailing  ", "two\nlines", "nul\0", 'quote " \\ '],
)
def test_a_prompt_goes_on_unchanged(prompt):
    assert order(prompt=prompt).plan.prompt == prompt


@pytest.mark.parametrize("prompt", ["a" * 1001, GRIN * 1001, "a" * 5000])
@pytest.mark.parametrize("model", [None, *CATALOG.models])
def test_a_prompt_has_at_most_1000_code_points(prompt, model):
    with pytest.raises(errors.TextTooLong, match=rf"1000.*{len(prompt)}") as failure:
        order(prompt=prompt, model=model)
    assert failure.value.param == "prompt"


@pytest.mark.parametrize(
    ("model", "asked", "made", "changed"),
    [
        (None, None, "1280x1280", False),
        (None, "auto", "1280x1280", False),
        ("cogview-4", "auto", "1024x1024", False),
        (None, "1024x1536", "1024x1536", False),
        (None, "1024X1536", "1024x1536", False),
        (None, f" 1024 {TIMES} 1536 ", "1024x1536", False),
        (None, "1024*1536", "1024x1536", False),
        (None, "1920x1080", "1920x1088", True),
        (None, f"1920{TIMES}1080", "1920x1088", True),
        (None, "256x256", "512x512", True),
        (None, "99999x1", "2048x512", True),
        (None, "720x1440", "736x1440", True),
        ("cogview-4", "720x1440", "720x1440", False),
        ("cogview-4", "256x256", "512x512", True),
    ],
)
def test_sizes(model, asked, made, changed):
    result = order(model=model, size=asked)
    assert result.plan.size == made
    asked_size = parse_size(asked) if changed else None
    assert result.changes == ((Change(name="size", before=str(asked_size), after=made),) if changed else ())


@pytest.mark.parametrize("asked", [None, "auto", "low", "medium", "standard", "high", "xhigh", "max", "hd"])
def test_qualities(asked):
    fine = asked in {"high", "xhigh", "max", "hd"}
    for model in CATALOG.models:
        made = order(model=model, quality=asked)
        wanted = "hd" if fine or model == "glm-image" else "standard"
        assert made.plan.quality == wanted
        listed = asked not in {None, "auto", wanted}
        assert made.changes == ((Change(name="quality", before=asked, after=wanted),) if listed else ())


def test_each_quality_has_a_name_in_an_answer():
    assert ANSWER_QUALITY == {"hd": "high", "standard": "medium"}


@pytest.mark.parametrize(
    ("model", "asked", "given_back"),
    [
        (None, None, "b64_json"),
        ("cogview-4", None, "b64_json"),
        ("gpt-image-2", None, "b64_json"),
        ("chatgpt-image-latest", None, "b64_json"),
        ("dall-e-2", None, "url"),
        ("dall-e-3", None, "url"),
        ("dall-e-3", "b64_json", "b64_json"),
        ("gpt-image-2", "url", "url"),
        (None, "url", "url"),
    ],
)
def test_response_formats(model, asked, given_back):
    assert order(model=model, response_format=asked).response_format == given_back


@pytest.mark.parametrize("n", range(1, 11))
def test_one_to_ten_pictures(n):
    assert order(n=n).n == n


@pytest.mark.parametrize("user", ["u", "x" * 500, "someone@example.com", "\u738b"])
def test_a_user_goes_upstream_as_a_hash_only(user):
    plan = order(user=user).plan
    assert plan.user_id == hash_user(user)
    assert 6 <= len(plan.user_id) <= 128


def test_no_user():
    assert order(user="").plan.user_id is None


@pytest.mark.parametrize(
    ("asked", "allowed", "watermark"), [(None, True, True), (True, False, True), (False, True, False)]
)
def test_watermarks(asked, allowed, watermark):
    assert order(watermark_enabled=asked, allow_unwatermarked=allowed).plan.watermark is watermark


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"background": "auto"}, []),
        ({"background": "opaque"}, []),
        ({"output_format": "png"}, []),
        ({"output_format": "jpeg"}, []),
        ({"output_format": "webp", "output_compression": 80}, []),
        ({"output_compression": 80}, ["output_compression"]),
        ({"output_format": "png", "output_compression": 100}, ["output_compression"]),
        ({"unsupported": ("style", "moderation")}, ["style", "moderation"]),
        ({"unknown": ("seed",), "unsupported": ("style",)}, ["style", "seed"]),
    ],
)
def test_what_is_ignored_is_said(parameters, names):
    assert order(**parameters).changes == tuple(Change(name=name) for name in names)


@pytest.mark.parametrize(("asked", "said"), [("url", True), ("b64_json", False), (None, False)])
def test_events_carry_no_url_and_that_is_said(asked, said):
    change = Change(name="response_format", before="url", after="b64_json")
    assert order(stream=True, response_format=asked).changes == ((change,) if said else ())


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
@pytest.mark.parametrize(
    ("asked", "rendition"),
    [
        ({}, None),
        ({"output_format": "png"}, None),
        ({"output_format": "jpeg"}, Rendition(media="jpeg")),
        ({"output_format": "webp", "output_compression": 0}, Rendition(media="webp", compression=0)),
        ({"output_format": "jpeg", "output_compression": 100}, Rendition(media="jpeg", compression=100)),
    ],
)
def test_formats_are_honoured(asked, rendition, response_format):
    assert order(response_format=response_format, **asked).rendition == rendition


@pytest.mark.parametrize(
    ("asked", "linked"),
    [
        ({"response_format": "url"}, True),
        ({"model": "dall-e-3"}, True),
        ({"response_format": "b64_json"}, False),
        ({"response_format": "url", "stream": True}, False),
    ],
)
def test_the_upstream_s_urls_are_passed_on_where_the_operator_wants_them(asked, linked):
    """What is not fetched cannot be converted, and that is said."""
    made = order(upstream_urls=True, output_format="webp", output_compression=5, **asked)
    assert made.linked is linked
    assert made.rendition == (None if linked else Rendition(media="webp", compression=5))
    names = {change.name for change in made.changes}
    assert names >= {"output_format", "output_compression"} if linked else not names & {"output_format"}
    assert not order(**asked).linked


WRONG = errors.InvalidValue
REFUSED = [
    ("prompt", None, errors.MissingParameter, "'prompt'"),
    *(("prompt", text, errors.EmptyText, "'prompt'") for text in ("", " \n\t")),
    *(("model", name, errors.ModelNotFound, f"'{name}'") for name in ("gpt-4o", "", "cogview-5")),
    *(("n", n, errors.NumberTooSmall, f"got {n} ") for n in (0, -1)),
    *(("n", n, errors.NumberTooLarge, f"got {n} ") for n in (11, 10**9)),
    *(("size", size, WRONG, f"'{size}'") for size in ("", "large", "1024", "16:9", "0x512", "100000x512", "AUTO")),
    *(("quality", quality, WRONG, "'standard'") for quality in ("", "ultra", "HD", "4k")),
    *(("response_format", asked, WRONG, "'url'") for asked in ("", "base64", "URL")),
    *(("background", background, WRONG, "'opaque'") for background in ("", "transparent", "white")),
    *(("output_format", asked, WRONG, "'webp'") for asked in ("", "gif", "svg", "jpg", "PNG")),
    ("output_compression", -1, errors.NumberTooSmall, "got -1 "),
    ("output_compression", 101, errors.NumberTooLarge, "got 101 "),
    ("watermark_enabled", False, WRONG, "images.allow_unwatermarked"),
]


@pytest.mark.parametrize(("name", "value", "kind", "says"), REFUSED)
def test_what_is_refused(name, value, kind, says):
    with pytest.raises(kind) as failure:
        order(**{name: value})
    assert failure.value.param == name
    assert says in failure.value.message


@pytest.mark.parametrize(
    ("parameters", "kind", "param"),
    [
        ({"size": "1920x1080"}, errors.InvalidValue, "size"),
        ({"output_compression": 80}, errors.UnsupportedParameter, "output_compression"),
        ({"unsupported": ("style",)}, errors.UnsupportedParameter, "style"),
        ({"unknown": ("seed",)}, errors.UnknownParameter, "seed"),
        ({"unknown": ("s" * 1000,)}, errors.UnknownParameter, "s" * 100),
    ],
)
def test_strict_handling_refuses_what_would_be_ignored_or_changed(parameters, kind, param):
    with pytest.raises(kind) as failure:
        order(strict=True, **parameters)
    assert failure.value.param == param
    assert order(**parameters).changes


@pytest.mark.parametrize(
    "parameters",
    [
        {"size": "auto"},
        {"size": f"1024{TIMES}1024", "output_format": "png", "background": "opaque", "response_format": "url"},
        {"output_format": "webp", "output_compression": 80},
        {"quality": "medium", "n": 10, "user": "u", "stream": True, "watermark_enabled": True},
    ],
)
def test_strict_handling_lets_pass_what_is_honoured(parameters):
    assert order(strict=True, **parameters).plan == order(**parameters).plan


words = st.sampled_from(["auto", "low", "hd", "standard", "max", "url", "b64_json", "opaque", "transparent", "png"])
texts = st.none() | words | st.text(max_size=20)
side = st.integers(0, 120_000)
size_texts = st.builds("{}{}{}".format, side, st.sampled_from(["x", "X", "*", TIMES, " x ", "by"]), side)
names = st.lists(st.text(max_size=12), max_size=3).map(tuple)
requests = st.builds(
    ImageRequest,
    prompt=st.none() | st.text(max_size=30) | st.integers(990, 1010).map(lambda length: GRIN * length),
    model=st.sampled_from([None, *CATALOG.models, "dall-e-3", "gpt-image-2"]) | st.text(max_size=10),
    n=st.integers(-2, 13),
    size=st.none() | size_texts | texts,
    quality=texts,
    response_format=texts,
    background=texts,
    output_format=texts,
    output_compression=st.none() | st.integers(-2, 102),
    stream=st.booleans(),
    user=st.none() | st.text(max_size=200),
    watermark_enabled=st.none() | st.booleans(),
    unsupported=names,
    unknown=names,
)
sound_requests = st.builds(
    ImageRequest,
    prompt=st.text(min_size=1, max_size=1000).filter(str.strip),
    model=st.sampled_from([None, *CATALOG.models, "dall-e-3"]),
    n=st.integers(1, 10),
    size=st.none() | st.builds("{}x{}".format, st.integers(1, 99_999), st.integers(1, 99_999)),
    quality=st.none() | st.sampled_from(["auto", "low", "high", "hd", "standard", "max"]),
    user=st.none() | st.text(max_size=200),
    unknown=names,
)


def check_inside_the_catalog(made, request):
    model = CATALOG.models[made.plan.model]
    size = parse_size(made.plan.size)
    assert model.size.allows(size)
    assert made.plan.quality in model.qualities
    assert made.plan.prompt == request.prompt
    assert 0 < len(made.plan.prompt) <= model.max_prompt
    assert 1 <= made.n == request.n <= 10
    assert made.response_format in {"url", "b64_json"}
    said = {change.name for change in made.changes}
    assert said >= {*request.unsupported, *request.unknown}
    assert "size" in said or request.size in {None, "auto"} or parse_size(request.size) == size


@given(request=requests, strict=st.booleans(), allowed=st.booleans())
def test_any_request_gives_an_order_inside_the_catalog_or_says_what_is_wrong(request, strict, allowed):
    made = failure = None
    try:
        made = order_from(request, CATALOG, mapping_rules(strict=strict, allow_unwatermarked=allowed))
    except errors.InvalidRequest as refusal:
        failure = refusal
    if made:
        check_inside_the_catalog(made, request)
    else:
        assert failure.param is not None
        assert failure.message


@given(request=sound_requests)
def test_no_size_quality_or_unknown_parameter_makes_a_sound_request_fail(request):
    check_inside_the_catalog(order_from(request, CATALOG, mapping_rules()), request)
