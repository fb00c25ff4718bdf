"""What a generation costs: what was delivered is charged, what was paid or may be is cost."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import errors
from gateway.domain.billing import AccountCost, Tariff, closed, decode_costs, opened
from gateway.domain.upstream import Account
from gateway.domain.usage import Answer, Outcome
from tests.builders import NOW, a_caller, a_job, a_picture, a_plan, an_order

DELIVERED, LOST, UNKNOWN, FAILED = "delivered", "lost", "unknown", "failed"
FAILURES = (
    errors.UpstreamBroken,
    errors.AccountUnusable,
    errors.UpstreamOverloaded,
    errors.UpstreamRejected,
    errors.QueueTimedOut,
    errors.TextTooLong,
)
NO_WAIT = {"latency_ms": 0, "queue_ms": 0, "answer": Answer()}
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
kinds = st.lists(st.sampled_from([DELIVERED, LOST, UNKNOWN, FAILED]), min_size=1, max_size=10)
prices = st.integers(0, 10**9)


def end_of(kind, number=0):
    if kind == DELIVERED:
        return a_picture()
    if kind == FAILED:
        return FAILURES[number % len(FAILURES)]("what to do")
    return {LOST: errors.ImageDownloadFailed, UNKNOWN: errors.OutcomeUnknown}[kind]("what to do")


def lines_of(kinds, price=100_000, **order):
    tariff = Tariff(price=price, currency="USD")
    order = an_order(**{"n": len(kinds), "requested_model": "dall-e-3", **order})
    line = opened(a_caller(), order, tariff, request_id="request-1", now=NOW, prompt_hash="hash")
    ends = [end_of(kind, number) for number, kind in enumerate(kinds)]
    return line, closed(line, ends, tariff, latency_ms=1234, queue_ms=34, answer=Answer(503, "a_code"))


@given(kinds=kinds, price=prices)
def test_every_picture_that_was_asked_for_is_delivered_lost_unknown_or_failed(kinds, price):
    _, line = lines_of(kinds, price)
    counts = Counter(kinds)
    assert line.pictures_delivered == counts[DELIVERED]
    assert line.pictures_paid - line.pictures_delivered == counts[LOST]
    unknown = counts[UNKNOWN]
    assert line.pictures_paid + unknown + counts[FAILED] == line.pictures_requested == len(kinds)
    assert line.cost == (line.pictures_paid + unknown) * price
    assert line.cost_uncertain is (unknown > 0)
    assert line.price == line.pictures_delivered * price


@given(kinds=kinds, price=prices)
def test_the_outcome_says_what_the_client_got(kinds, price):
    _, line = lines_of(kinds, price)
    delivered, asked = kinds.count(DELIVERED), len(kinds)
    expected = {
        Outcome.DELIVERED: delivered == asked,
        Outcome.PARTIAL: 0 < delivered < asked,
        Outcome.UNKNOWN: not delivered and UNKNOWN in kinds,
        Outcome.FAILED: not delivered and UNKNOWN not in kinds,
    }
    assert [outcome for outcome, holds in expected.items() if holds] == [line.outcome]


@given(kinds=kinds, price=prices)
def test_nothing_costs_more_than_the_line_that_was_opened(kinds, price):
    """If the owner dies, the opened line stands: nothing charged, and the most that it may have cost."""
    line, done = lines_of(kinds, price)
    assert (line.outcome, line.price, line.pictures_delivered) == (Outcome.ABANDONED, 0, 0)
    assert (line.cost, line.cost_uncertain) == (len(kinds) * price, True)
    assert 0 <= done.price <= done.cost <= line.cost


@given(kinds=kinds)
def test_who_asked_for_what_stays_as_it_was_opened(kinds):
    line, done = lines_of(kinds)
    for name in ("event_id", "request_id", "time", "project_id", "key_id", "requested_model", "upstream_model"):
        assert getattr(done, name) == getattr(line, name)
    assert (done.event_id, done.request_id, done.time) == ("request-1", "request-1", NOW)
    assert (done.requested_model, done.upstream_model) == ("dall-e-3", "glm-image")
    assert (done.cost_currency, done.currency, done.latency_ms) == ("USD", "USD", 1234)
    assert (done.queue_ms, done.status, done.error_code) == (34, 503, "a_code")
    assert (line.queue_ms, line.status, line.error_code) == (0, 0, "")
    assert line.prompt_hash == done.prompt_hash == "hash"
    assert done.source == "image.generation"


@pytest.mark.parametrize(("user_id", "hashed"), [(None, ""), ("0123abcd", "0123abcd")])
def test_the_end_user_is_known_by_the_hash_only(user_id, hashed):
    line, done = lines_of([DELIVERED], plan=a_plan(user_id=user_id, prompt="a s3cret"))
    assert line.end_user_hash == done.end_user_hash == hashed
    assert "s3cret" not in f"{line!r} {done!r}"


def test_size_and_account_are_those_of_what_was_made():
    tariff = Tariff(price=1, currency="CNY")
    line = opened(a_caller(), an_order(n=4), tariff, request_id="request-1", now=JANUARY, prompt_hash="")
    assert (line.size, line.upstream_account) == ("1280x1280", "")
    made = [a_picture(size=(1024, 768)) for _ in range(3)]
    ends = [errors.UpstreamBroken("x"), *made]
    done = closed(line, ends, tariff, **NO_WAIT)
    assert done.size == "1024x768"
    assert closed(line, [errors.UpstreamBroken("x")], tariff, **NO_WAIT).size == "1280x1280"


def test_every_account_that_made_a_picture_is_named_once():
    tariff = Tariff(price=1, currency="CNY")
    line = opened(a_caller(), an_order(n=3), tariff, request_id="request-1", now=NOW, prompt_hash="hash")
    made = [a_picture(account=name) for name in ("b", "a", "b")]
    assert closed(line, made, tariff, **NO_WAIT).upstream_account == "b,a"


@pytest.mark.parametrize(
    ("price", "micros"),
    [("0.10", 100_000), ("0", 0), ("0.0000005", 1), ("0.0000004", 0), ("0.1234565", 123_457), ("12", 12_000_000)],
)
def test_a_price_is_rounded_once_and_half_up(price, micros):
    assert Tariff.of(Decimal(price), "CNY") == Tariff(price=micros, currency="CNY")


@pytest.mark.parametrize(
    ("price", "markup", "micros"),
    [("0.10", "1.25", 125_000), ("0.10", "0", 0), ("0.0000005", "0.9", 0), ("0.0000004", "1.25", 1)],
)
def test_a_price_with_markup_is_rounded_once_too(price, markup, micros):
    assert Tariff.of(Decimal(price), "CNY", Decimal(markup)).price == micros


def test_a_line_of_several_accounts_tells_what_each_took():
    tariff = Tariff(price=1, currency="CNY").at([HERE, THERE, ABROAD], "glm-image")
    line = opened(a_caller(), an_order(n=4), tariff, request_id="r", now=NOW, prompt_hash="")
    ends = [a_picture(account="here"), a_picture(account="abroad"), lost_by("here"), a_picture(account="gone")]
    assert decode_costs(closed(line, ends, tariff, **NO_WAIT).account_costs) == [
        AccountCost("here", 2, 160_000, "CNY"),
        AccountCost("abroad", 1, 15_000, "USD"),
    ]
    assert closed(line, ends[:1], tariff, **NO_WAIT).account_costs == "", "the line itself tells"
    assert decode_costs(closed(line, [ends[0], UNSEEN], tariff, **NO_WAIT).account_costs) == [
        AccountCost("here", 1, 80_000, "CNY")
    ]


HERE, THERE, ABROAD = (
    Account(name="here", costs={"glm-image": 80_000}, currency="CNY"),
    Account(name="there", costs={"glm-image": 100_000}, currency="CNY"),
    Account(name="abroad", costs={"glm-image": 15_000}, currency="USD"),
)
OTHER_MODEL = Account(name="other", models=frozenset({"cogview-4"}), costs={"cogview-4": 10**9}, currency="CNY")


def costs_of(accounts, *ends):
    tariff = Tariff(price=125_000, currency="CNY").at([*accounts, OTHER_MODEL], "glm-image")
    line = opened(a_caller(), an_order(n=len(ends)), tariff, request_id="r", now=NOW, prompt_hash="")
    done = closed(line, ends, tariff, **NO_WAIT)
    assert done.price == 125_000 * done.pictures_delivered
    assert done.currency == "CNY"
    said = [(one.cost, one.cost_currency, one.cost_uncertain) for one in (line, done)]
    return said[0], said[1]


def lost_by(account):
    return errors.ImageDownloadFailed("x", account=account)


UNSEEN = errors.OutcomeUnknown("x")


@pytest.mark.parametrize(
    ("accounts", "ends", "most", "cost"),
    [
        ([HERE], [a_picture(account="here")], (80_000, "CNY"), (80_000, "CNY", False)),
        ([HERE, THERE], [a_picture(account="here")], (100_000, "CNY"), (80_000, "CNY", False)),
        ([HERE, THERE], [a_picture(account="there"), lost_by("here")], (200_000, "CNY"), (180_000, "CNY", False)),
        ([HERE, THERE], [a_picture(account="here"), UNSEEN], (200_000, "CNY"), (180_000, "CNY", True)),
        ([HERE, THERE], [lost_by("")], (100_000, "CNY"), (100_000, "CNY", True)),
        ([HERE], [lost_by("")], (80_000, "CNY"), (80_000, "CNY", False)),
        ([HERE, THERE], [a_picture(account="gone")], (100_000, "CNY"), (100_000, "CNY", True)),
        ([ABROAD], [a_picture(account="abroad"), UNSEEN], (30_000, "USD"), (30_000, "USD", True)),
        ([HERE, ABROAD], [a_picture(account="abroad")], (80_000, "CNY"), (15_000, "USD", False)),
        ([HERE, ABROAD], [a_picture(account="abroad"), UNSEEN], (160_000, "CNY"), (30_000, "USD", True)),
        ([HERE, ABROAD], [a_picture(account="here"), a_picture(account="abroad")], (160_000, "CNY"),
         (160_000, "CNY", True)),
        ([HERE], [errors.UpstreamBroken("x")], (80_000, "CNY"), (0, "CNY", False)),
    ],
)  # fmt: skip
def test_a_picture_costs_what_its_account_takes(accounts, ends, most, cost):
    assert costs_of(accounts, *ends) == ((*most, True), cost)


def test_what_an_account_takes_is_what_was_known_of_it_first():
    """A reload may change it, or add an account, while a picture waits."""
    dearer = replace(HERE, costs={"glm-image": 90_000})
    job = a_job(tariff=Tariff(price=1, currency="CNY").at([HERE], "glm-image"))
    assert job.paying(dearer).tariff.cost("here") == (80_000, "CNY")
    assert job.paying(dearer) is job
    assert job.paying(THERE).tariff.cost("there") == (100_000, "CNY")
    assert job.paying(THERE).tariff.cost("here") == (80_000, "CNY")


def test_where_no_account_takes_the_price_s_currency_the_first_one_says_what_a_picture_may_cost():
    """A reload may put them into another order."""
    euros = replace(ABROAD, name="euros", currency="EUR", costs={"glm-image": 20_000})
    orders = [[ABROAD, euros], [euros, ABROAD]]
    found = [Tariff(price=1, currency="CNY").at(accounts, "glm-image").most() for accounts in orders]
    assert found == [(15_000, "USD"), (20_000, "EUR")]
