"""When a threshold is told of, and when it is told of again."""

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.alerts import LATE, Crossing, Use, body_of, crossings, periods_at
from gateway.domain.limits import Limit
from gateway.domain.quota import Limits, Period
from tests.fakes_administration import a_project

NOVEMBER = Period(name="2026-11", starts=0, ends=1_764_547_200_000)
ORDINARY = (50, 80, 100)


def pictures(used):
    return Use(limit=Limit.IMAGES_PER_MONTH, period=NOVEMBER, used=used)


def news(used, limit, told=None, thresholds=ORDINARY):
    found = crossings(Limits(images_per_month=limit), thresholds, pictures(used), told or {})
    return [crossing.threshold for crossing in found]


@pytest.mark.parametrize(
    ("used", "limit", "expected"),
    [
        (0, 10, []),
        (4, 10, []),
        (5, 10, [50]),
        (8, 10, [50, 80]),
        (10, 10, [50, 80, 100]),
        (12, 10, [50, 80, 100]),
        (1, 3, []),
        (2, 3, [50]),
        (2, 0, []),
        (2, None, []),
    ],
)
def test_a_threshold_is_reached_when_so_much_of_the_limit_is_used(used, limit, expected):
    assert news(used, limit) == expected


def test_what_was_told_is_not_told_again():
    assert news(9, 10, told={50: 5}) == [80]
    assert news(9, 10, told={50: 9, 80: 9}) == []


def test_a_raised_limit_arms_what_lies_above_all_that_was_told():
    told = {50: 5, 80: 8, 100: 10}
    assert news(11, 15, told) == []
    assert news(12, 15, told) == [80]
    assert news(15, 15, {**told, 80: 12}) == [100]
    assert news(10, 15, told) == []


def test_a_lowered_limit_tells_what_was_never_told():
    assert news(500, 550, told={50: 500}) == [80]


def test_a_threshold_that_is_added_below_what_was_told_is_told_once():
    assert news(9, 10, told={80: 8}, thresholds=(70, 80)) == [70]


def test_the_amount_is_rounded_up():
    [crossing] = crossings(Limits(images_per_month=3), (50,), pictures(2), {})
    assert (crossing.amount, crossing.used, crossing.value) == (2, 2, 3)


def test_a_late_line_counts_in_the_period_that_is_just_over():
    zone = ZoneInfo("Asia/Shanghai")
    midnight = datetime(2026, 11, 30, 16, tzinfo=UTC)

    def names(at):
        return {(limit.value, period.name) for limit, period in periods_at(at, zone)}

    december = {("images_per_day", "2026-12-01"), ("images_per_month", "2026-12"), ("spend_per_month", "2026-12")}
    november = {("images_per_day", "2026-11-30"), ("images_per_month", "2026-11"), ("spend_per_month", "2026-11")}
    assert names(midnight - timedelta(seconds=1)) == november
    assert names(midnight + timedelta(seconds=1)) == november | december
    assert names(midnight + LATE) == december


def crossing_of(limit, **changes):
    ordinary = {"period": "2026-11", "period_ends": datetime(2026, 12, 1, tzinfo=UTC), "threshold": 80}
    return Crossing(**{**ordinary, "limit": limit, **changes})


def test_money_is_a_text_and_says_its_currency():
    crossing = crossing_of(Limit.SPEND_PER_MONTH, amount=160_000_000, value=200_000_000, used=160_100_000)
    said = json.loads(body_of(crossing, a_project("设计"), "CNY", datetime(2026, 11, 24, 4, tzinfo=UTC)))
    assert said == {
        "type": "spend.threshold_reached",
        "timestamp": "2026-11-24T04:00:00Z",
        "data": {
            "project_id": "proj_设计",
            "project": "设计",
            "limit": "spend_per_month",
            "value": "200.00",
            "used": "160.10",
            "currency": "CNY",
            "threshold": 80,
            "period": "2026-11",
            "period_ends": "2026-12-01T00:00:00Z",
        },
    }


def test_pictures_are_numbers():
    crossing = crossing_of(Limit.IMAGES_PER_DAY, amount=80, value=100, used=81)
    said = json.loads(body_of(crossing, a_project(), "CNY", datetime(2026, 11, 24, 4, tzinfo=UTC)))
    assert said["type"] == "images.threshold_reached"
    assert (said["data"]["value"], said["data"]["used"], "currency" in said["data"]) == (100, 81, False)
