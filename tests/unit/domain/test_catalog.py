"""The real catalog: its models, aliases and size rules, and "the nearest size" of design.md section 6."""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from math import floor, isqrt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.domain.catalog import Alias, Catalog, Size, SizeRule, parse_size
from gateway.domain.errors import ModelNotFound
from gateway.settings.models import load_catalog

CATALOG = load_catalog()
MODELS = ("glm-image", "cogview-4-250304", "cogview-4", "cogview-3-flash")
TIMES = "\u00d7"

sides = st.integers(min_value=1, max_value=99_999)
models = st.sampled_from([CATALOG.models[name] for name in MODELS])


def size(text):
    width, height = text.split("x")
    return Size(width=int(width), height=int(height))


def nearest_by_the_book(rule, asked):
    """Design.md section 6, "Sizes", word for word; each side is kept as its square, so that every step is exact."""
    if rule.allows(asked):
        return asked
    long, short = max(asked.width, asked.height), min(asked.width, asked.height)
    ratio = min(Fraction(long, short), Fraction(4))  # clamp the ratio to 1:4..4:1
    at_least = (rule.min_side * ratio) ** 2
    at_most = min(Fraction(rule.max_side) ** 2, rule.max_pixels * ratio)  # the box, and the pixel cap
    long_squared = min(max(Fraction(long) ** 2, at_least), at_most)  # scale to fit, keeping the ratio
    long, short = (round_root(squared, rule.step) for squared in (long_squared, long_squared / ratio**2))
    wide = asked.width >= asked.height
    while long * short > rule.max_pixels:  # while over the cap shrink the longer side by a step
        first = long >= short if wide else long > short
        long, short = (long - rule.step, short) if first else (long, short - rule.step)
    return Size(width=long, height=short) if wide else Size(width=short, height=long)


def round_root(squared, step):
    """Round the root of a fraction half-up to a multiple of step: floor(root / step + 1/2) in integers alone."""
    return (isqrt(floor(4 * squared / step**2)) + 1) // 2 * step


@pytest.mark.parametrize(
    ("name", "rule", "default", "qualities", "price"),
    [
        ("glm-image", (512, 2048, 32, 2**22), "1280x1280", ("hd",), "0.10"),
        ("cogview-4-250304", (512, 2048, 16, 2**21), "1024x1024", ("standard", "hd"), "0.06"),
        ("cogview-4", (512, 2048, 16, 2**21), "1024x1024", ("standard", "hd"), "0.06"),
        ("cogview-3-flash", (512, 2048, 16, 2**21), "1024x1024", ("standard", "hd"), "0"),
    ],
)
def test_the_models(name, rule, default, qualities, price):
    model = CATALOG.find(name)
    min_side, max_side, step, max_pixels = rule
    assert model.name == name
    assert model.size == SizeRule(min_side=min_side, max_side=max_side, step=step, max_pixels=max_pixels)
    assert model.default_size == default
    assert model.qualities == qualities
    assert model.price == Decimal(price)
    assert isinstance(model.price, Decimal)
    assert model.max_prompt == 1000
    assert model.created > 1_700_000_000


def test_there_are_no_other_models_and_glm_image_is_the_default():
    assert tuple(CATALOG.models) == MODELS
    assert CATALOG.default.name == "glm-image"
    assert CATALOG.find(None) is CATALOG.default


@pytest.mark.parametrize("name", MODELS)
def test_default_and_recommended_sizes_are_legal(name):
    model = CATALOG.models[name]
    assert model.recommended_sizes[0] == model.default_size
    assert all(model.size.allows(size(text)) for text in model.recommended_sizes)


@pytest.mark.parametrize(
    ("name", "response_format"),
    [
        ("gpt-image-1", "b64_json"),
        ("gpt-image-2.5-sunburst-2026-09-08", "b64_json"),
        ("gpt-image-", "b64_json"),
        ("chatgpt-image-latest", "b64_json"),
        ("dall-e-2", "url"),
        ("dall-e-3", "url"),
    ],
)
def test_names_of_openais_stand_for_glm_image(name, response_format):
    assert CATALOG.find(name).name == "glm-image"
    assert CATALOG.alias_of(name).response_format == response_format


@pytest.mark.parametrize("name", ["", "gpt-4o", "gpt-image", "GLM-Image", "glm-image ", "dalle-3", "xdall-e-3", "*"])
def test_any_other_name_is_not_found(name):
    with pytest.raises(ModelNotFound) as failure:
        CATALOG.find(name)
    assert failure.value.param == "model"
    assert f"'{name}'" in failure.value.message
    assert "/v1/models" in failure.value.message


@pytest.mark.parametrize("rest", ["\0x", "\ud800", "a\nb", "a" * 100])
def test_a_name_that_no_ledger_could_hold_is_not_found(rest):
    """PostgreSQL refuses NUL and half characters, and the line of a request has the name as the client wrote it."""
    with pytest.raises(ModelNotFound) as failure:
        CATALOG.find(f"gpt-image-{rest}")
    assert failure.value.message.isprintable()
    assert CATALOG.alias_of(f"dall-e-{rest}") is None


def test_a_long_name_is_not_repeated_in_full():
    with pytest.raises(ModelNotFound) as failure:
        CATALOG.find("m" * 100_000)
    assert len(failure.value.message) < 300


def test_the_list_has_every_model_and_the_names_that_clients_filter_by():
    listed = {line.id: line for line in CATALOG.listed()}
    assert len(listed) == len(CATALOG.listed())
    assert listed.keys() >= {*MODELS, "gpt-image-1", "gpt-image-2", "chatgpt-image-latest", "dall-e-2", "dall-e-3"}
    for name, line in listed.items():
        assert CATALOG.describe(name) == line
        assert line.created == CATALOG.find(name).created
        assert line.owned_by


def test_a_catalog_that_contradicts_itself_is_refused():
    model = CATALOG.default
    with pytest.raises(ValueError, match="at least one model"):
        Catalog([])
    with pytest.raises(ValueError, match="nowhere"):
        Catalog([model], [Alias(pattern="a-*", model="nowhere")])
    for default_size in ("large", "1281x1280", "2080x2080"):
        with pytest.raises(ValueError, match="default_size of 'glm-image'"):
            Catalog([replace(model, default_size=default_size)])


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("1024x768", "1024x768"),
        ("1024X768", "1024x768"),
        (f"1024{TIMES}768", "1024x768"),
        ("1024*768", "1024x768"),
        (" 1024 x 768 ", "1024x768"),
        (f"1024 {TIMES}768", "1024x768"),
        ("1x1", "1x1"),
        ("99999x99999", "99999x99999"),
        ("0512x0512", "512x512"),
    ],
)
def test_every_spelling_of_a_size_is_read(text, read):
    assert parse_size(text) == size(read)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "1024", "1024x", "x1024", "0x512", "512x0", "100000x512", "512x100000", "-512x512", "5.5x5"),
        *("1024x768x3", "1024 768", "1024by768", "16:9", "large", "Auto", "1e3x1e3", "\u0661x\u0661", "1024xx768"),
    ],
)
def test_anything_else_is_no_size(text):
    assert parse_size(text) is None


@pytest.mark.parametrize(
    ("model", "asked", "given_back"),
    [
        ("glm-image", "1920x1080", "1920x1088"),
        ("glm-image", "1080x1920", "1088x1920"),
        ("glm-image", "256x256", "512x512"),
        ("glm-image", "1024x1024", "1024x1024"),
        ("glm-image", "1024x1536", "1024x1536"),
        ("glm-image", "1792x1024", "1792x1024"),
        ("glm-image", "2048x2048", "2048x2048"),
        ("glm-image", "4096x4096", "2048x2048"),
        ("glm-image", "2048x512", "2048x512"),
        ("glm-image", "1x99999", "512x2048"),
        ("glm-image", "3840x2160", "2048x1152"),
        ("glm-image", "1000x1000", "992x992"),
        ("glm-image", "1008x1008", "1024x1024"),
        ("glm-image", "1x1", "512x512"),
        ("cogview-4", "1920x1080", "1920x1088"),
        ("cogview-4", "2048x1024", "2048x1024"),
        ("cogview-4", "2048x2048", "1440x1456"),
        ("cogview-4", "1000x1000", "1008x1008"),
        ("cogview-3-flash", "1536x1536", "1440x1456"),
        ("cogview-4-250304", "1x99999", "512x2048"),
    ],
)
def test_the_nearest_size(model, asked, given_back):
    rule = CATALOG.models[model].size
    assert str(rule.nearest(size(asked))) == given_back
    assert nearest_by_the_book(rule, size(asked)) == size(given_back)


def test_an_exact_half_is_rounded_up():
    """At the cap 32768:16641 is 2032.1 x 1032, and 1032 is exactly 64.5 steps: 65 of them, then the longer one less."""
    rule = CATALOG.models["cogview-4"].size
    assert nearest_by_the_book(rule, size("32768x16641")) == size("2016x1040")
    assert rule.nearest(size("32768x16641")) == size("2016x1040")


@given(model=models, width=sides, height=sides)
@example(model=CATALOG.models["cogview-4"], width=2047, height=2047)
def test_the_nearest_size_is_legal_and_as_designed(model, width, height):
    asked = Size(width=width, height=height)
    nearest = model.size.nearest(asked)
    assert model.size.allows(nearest)
    assert nearest == nearest_by_the_book(model.size, asked)


@given(model=models, data=st.data())
def test_a_legal_size_is_its_own_nearest(model, data):
    rule = model.size
    steps = st.integers(rule.min_side // rule.step, rule.max_side // rule.step)
    legal = Size(width=data.draw(steps) * rule.step, height=data.draw(steps) * rule.step)
    if legal.width * legal.height <= rule.max_pixels:
        assert rule.allows(legal)
        assert rule.nearest(legal) == legal
    else:
        assert not rule.allows(legal)
        assert rule.allows(rule.nearest(legal))


@given(model=models, width=sides, height=sides)
@example(model=CATALOG.models["cogview-4"], width=4681, height=4682)
def test_a_turned_size_gives_the_turned_result(model, width, height):
    """But for a tie: where both sides are, or are rounded to, the same, the width is the one that gives way."""
    one = model.size.nearest(Size(width=width, height=height))
    other = model.size.nearest(Size(width=height, height=width))
    tied = one == other and abs(one.width - one.height) <= model.size.step
    assert tied or (one.width, one.height) == (other.height, other.width)


@given(model=models, width=sides, height=sides)
def test_the_ratio_is_kept_within_rounding(model, width, height):
    """Rounding moves a side by half a step; where the pixel cap bites (below 2:1), at most two whole steps come on top.

    With L = rS exact, |l - L| <= d and |s - S| <= d: |l/s - r| = |(l - L) - r(s - S)| / s <= d(1 + r) / s.
    """
    nearest = model.size.nearest(Size(width=width, height=height))
    ratio = min(Fraction(max(width, height), min(width, height)), Fraction(4))
    long, short = (nearest.width, nearest.height) if width >= height else (nearest.height, nearest.width)
    capped = model.size.max_pixels < model.size.max_side**2 and ratio < 2
    moved = model.size.step * (Fraction(5, 2) if capped else Fraction(1, 2))
    assert abs(Fraction(long, short) - ratio) <= moved * (1 + ratio) / short
