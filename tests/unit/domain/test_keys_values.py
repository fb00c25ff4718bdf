"""What an operator writes becomes exact values, or one sentence that says what is wrong."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import InvalidValue
from gateway.domain.keys import caller_of
from gateway.domain.quota import Limit, Limits
from gateway.domain.terms import (
    LARGEST,
    exact_money,
    money_text,
    parse_cache_scope,
    parse_ips,
    parse_lifetime,
    parse_limit,
    parse_metadata,
    parse_models,
    parse_money,
    parse_name,
    parse_overlap,
    parse_terms,
    with_changes,
)
from gateway.settings.models import load_catalog
from tests.fakes_administration import NOW, a_key, a_project

CATALOG = load_catalog()
COUNTS = [limit for limit in Limit if limit is not Limit.SPEND_PER_MONTH]


@given(amount=st.decimals(0, 10**9, places=6))
def test_money_is_exact(amount):
    assert Decimal(parse_money(f"{amount:f}")) == exact_money(amount) == amount * 10**6


@pytest.mark.parametrize(
    "word", ["-0.01", "1000000000.000001", "1E+999999", "1E-999999", "0.0000001", "NaN", "sNaN", "-Infinity"]
)
def test_what_is_no_amount_of_money_is_refused(word):
    with pytest.raises(InvalidValue):
        exact_money(Decimal(word))


@given(millionths=st.integers(0, LARGEST))
def test_money_is_read_as_it_was_written(millionths):
    text = money_text(millionths)
    assert parse_money(text) == millionths
    assert len(text.partition(".")[2]) >= 2


@pytest.mark.parametrize(
    ("millionths", "text"),
    [(0, "0.00"), (1, "0.000001"), (12_500_000, "12.50"), (100_000_000, "100.00"), (125_000, "0.125")],
)
def test_money_is_written_as_people_do(millionths, text):
    assert money_text(millionths) == text


@given(word=st.text())
def test_whatever_is_written_as_money_is_read_exactly_or_refused(word):
    try:
        millionths = parse_money(word)
    except InvalidValue:
        return
    assert Decimal(word) * 10**6 == millionths


@pytest.mark.parametrize(
    "word",
    [
        "-1",
        "+1",
        "NaN",
        "inf",
        "1e3",
        "1_000",
        "1,5",
        ".5",
        "5.",
        "",
        " 1",
        "1.0000001",
        "1.0000000",
        "٣",
        "9" * 5000,
        "1\n",
    ],
)
def test_what_is_no_amount_of_money(word):
    with pytest.raises(InvalidValue):
        parse_money(word)


@given(value=st.integers(0, LARGEST), limit=st.sampled_from(COUNTS))
def test_a_count_is_a_whole_number(value, limit):
    assert parse_limit(limit, str(value)) == value


@pytest.mark.parametrize("limit", list(Limit))
def test_none_clears_a_limit(limit):
    assert parse_limit(limit, "none") is None


@pytest.mark.parametrize("limit", list(Limit))
@pytest.mark.parametrize("word", ["-1", "x", "", "1e3", "٣", "9" * 5000, str(LARGEST * 10), "None", " 1"])
def test_a_bad_limit_is_one_sentence(limit, word):
    with pytest.raises(InvalidValue) as failure:
        parse_limit(limit, word)
    assert "\n" not in failure.value.message
    assert len(failure.value.message) < 250
    assert failure.value.param == limit.value


@pytest.mark.parametrize("limit", COUNTS)
def test_a_count_has_no_decimals(limit):
    with pytest.raises(InvalidValue, match="whole number"):
        parse_limit(limit, "1.5")


@given(number=st.integers(1, 36500), unit=st.sampled_from([("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_a_lifetime_is_read(number, unit):
    assert parse_lifetime(f"{number}{unit[0]}").total_seconds() == number * unit[1]


@given(word=st.text() | st.from_regex(r"[0-9]+[smhdwy]?", fullmatch=True))
def test_whatever_is_written_as_a_lifetime_is_positive_or_refused(word):
    try:
        lifetime = parse_lifetime(word)
    except InvalidValue:
        return
    assert timedelta(0) < lifetime <= timedelta(days=36500)


@pytest.mark.parametrize("word", ["0d", "0", "30", "-1d", "1.5h", "1w", "36501d", "d", "", "1 d", "999999999d", "٣d"])
def test_what_is_no_lifetime(word):
    with pytest.raises(InvalidValue, match="30d"):
        parse_lifetime(word)


def test_an_overlap_may_be_nothing():
    assert parse_overlap("0") == timedelta(0)
    assert parse_overlap("24h") == timedelta(days=1)
    with pytest.raises(InvalidValue):
        parse_overlap("none")


def test_models_are_those_of_the_catalog_and_an_alias_stands_for_its_model():
    assert parse_models("cogview-4, dall-e-3,glm-image", CATALOG) == ("cogview-4", "glm-image")
    assert parse_models("none", CATALOG) == ()
    for word in ("gpt-9", "glm-image,", "", "glm-image,none"):
        with pytest.raises(InvalidValue) as failure:
            parse_models(word, CATALOG)
        assert failure.value.param == "models"


def test_ips_are_addresses_and_networks():
    assert [str(network) for network in parse_ips("192.0.2.7, 10.0.0.0/8,2001:db8::/32")] == [
        *("192.0.2.7/32", "10.0.0.0/8", "2001:db8::/32"),
    ]
    assert parse_ips("none") == ()
    for word in ("10.0.0.1/8", "10.0.0.0/33", "example.com", "", "10.0.0.0/8,"):
        with pytest.raises(InvalidValue, match="no address or network"):
            parse_ips(word)


def test_cache_scopes():
    assert [parse_cache_scope(word) for word in ("key", "project", "shared", "off", "none")] == [
        *("key", "project", "shared", "off"),
        None,
    ]
    with pytest.raises(InvalidValue, match="key, project, shared, off or none"):
        parse_cache_scope("all")


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\0b", "\udc80"])
def test_what_is_no_name(name):
    with pytest.raises(InvalidValue, match="name of 1 to 100"):
        parse_name("key", name)


@pytest.mark.parametrize("name", ["x", "x" * 100, "设计 team", "a'b\"c"])
def test_names(name):
    assert parse_name("key", name) == name


def test_metadata_within_its_bounds():
    full = {f"{number:064}": "x" * 512 for number in range(16)}
    assert parse_metadata([f"{name}={value}" for name, value in full.items()]) == full
    assert parse_metadata(["team=设计", "sum=a=b", "empty="]) == {"team": "设计", "sum": "a=b", "empty": ""}
    assert parse_metadata(["none=none"]) == {"none": "none"}
    assert parse_metadata(["none"]) == {}


@pytest.mark.parametrize(
    "words",
    [
        *(["team"], ["=x"], ["a=1", "a=2"], ["a=1", "none"], ["x" * 65 + "=1"], ["a=" + "x" * 513]),
        *(["a=\n"], ["a\x1b[2J=1"], ["a=\udcff"], [f"{number}=x" for number in range(17)], ["x" * 100_000]),
    ],
)
def test_what_is_no_metadata_is_one_sentence(words):
    with pytest.raises(InvalidValue) as failure:
        parse_metadata(words)
    assert failure.value.message.isprintable()
    assert len(failure.value.message) < 250
    assert failure.value.param == "metadata"


def test_only_what_is_given_is_among_the_terms():
    words = {
        "images_per_day": "5",
        "concurrent": None,
        "spend_per_month": "none",
        "shadow": False,
        "expires_in": "none",
        "metadata": ("team=design",),
    }
    assert parse_terms(words, CATALOG) == {
        "images_per_day": 5,
        "spend_per_month": None,
        "shadow": False,
        "expires_in": None,
        "metadata": {"team": "design"},
    }
    assert parse_terms({"metadata": ()}, CATALOG) == {}


def test_changes_reach_the_limits_and_the_rest():
    key = a_key(limits=Limits(images_per_day=1, concurrent=2), models=("glm-image",))
    changed = with_changes(key, {"images_per_day": None, "models": (), "shadow": True})
    assert changed == a_key(limits=Limits(concurrent=2, shadow=True))
    assert with_changes(a_project(), {"images_per_day": 0}) == a_project(limits=Limits(images_per_day=0))


@pytest.mark.parametrize(
    ("of_key", "of_project", "allowed"),
    [
        ((), (), {"a", "b", "c"}),
        (("a",), (), {"a"}),
        ((), ("b",), {"b"}),
        (("a", "b"), ("b", "c"), {"b"}),
        (("a",), ("b",), set()),
    ],
)
def test_a_model_is_allowed_when_key_and_project_allow_it(of_key, of_project, allowed):
    caller = caller_of(a_key(models=of_key, project=a_project(models=of_project)))
    assert {model for model in "abc" if caller.allows(model)} == allowed


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "active"),
        ({"expires_at": NOW + timedelta(seconds=1)}, "active"),
        ({"expires_at": NOW}, "expired"),
        ({"revoked_at": NOW, "expires_at": NOW}, "revoked"),
        ({"project": a_project(archived_at=NOW)}, "archived"),
        ({"disabled_at": NOW}, "disabled"),
        ({"disabled_at": NOW, "expires_at": NOW}, "expired"),
        ({"disabled_at": NOW, "project": a_project(archived_at=NOW)}, "archived"),
        ({"disabled_at": NOW, "revoked_at": NOW}, "revoked"),
    ],
)
def test_the_state_of_a_key(changes, state):
    assert a_key(**changes).state(NOW) == state
