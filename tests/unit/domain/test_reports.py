"""What a report is asked: periods, groups and times."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import InvalidValue
from gateway.domain.reports import (
    LATEST,
    SECONDS,
    Group,
    end_of,
    page_of_buckets,
    parse_groups,
    parse_since,
    period,
)

NOW = datetime(2026, 11, 23, 12, 34, 56, tzinfo=UTC)
moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - of them made


@given(moments, st.sampled_from(sorted(SECONDS)))
def test_a_moment_lies_in_its_period_and_the_period_is_of_the_calendar(at, group):
    start = period(group, at)
    assert start <= at < start + timedelta(seconds=SECONDS[group])
    assert period(group, start) == start
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    assert (start - midnight) % timedelta(seconds=SECONDS[group]) == timedelta(0)


@pytest.mark.parametrize(
    ("word", "since"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("12h", NOW - timedelta(hours=12)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
    ],
)
def test_since_is_a_time_back_or_a_date(word, since):
    assert parse_since(word, NOW) == since


@pytest.mark.parametrize("word", ["", "7", "d", "7w", "-7d", "0d", "2026-13-01", "2026-02-30", "20261101", "\u0667d"])
def test_what_is_neither_is_refused_with_examples(word):
    with pytest.raises(InvalidValue, match="no time like 7d, 12h or 30m, and no date like 2026-11-01") as failure:
        parse_since(word, NOW)
    assert failure.value.param == "since"


def test_groups_keep_their_order_and_count_once():
    assert parse_groups("day, project,day") == (Group.DAY, Group.PROJECT)


@pytest.mark.parametrize("word", ["", "project,", "week", "project;key"])
def test_an_unknown_group_is_refused_with_those_there_are(word):
    with pytest.raises(InvalidValue, match="use some of project, key, model"):
        parse_groups(word)


@given(
    st.integers(0, 10**9),
    st.integers(1, 50),
    st.integers(0, 86399),
    st.sampled_from(sorted(SECONDS)),
    st.integers(1, 20),
)
def test_pages_of_periods_are_the_range_without_gap_or_overlap(start, periods, rest, width, limit):
    end = start + periods * SECONDS[width] + rest % SECONDS[width]
    page, bounds = "", []
    while page is not None:
        found = page_of_buckets(start, end, width, limit, page)
        assert len(found.bounds) == limit or (0 < len(found.bounds) < limit and found.following is None)
        bounds += found.bounds
        page = found.following
    assert (bounds[0][0], bounds[-1][1]) == (start, end)
    inner = [at for at, _ in bounds[1:]]
    assert inner == [to for _, to in bounds[:-1]]
    assert all(at % SECONDS[width] == 0 for at in inner)
    assert len(bounds) in {periods, periods + 1, periods + 2}


@pytest.mark.parametrize("page", ["page_", "page_0", "page_86400x", "page_90000", "page_999999999999", "86400", "\0"])
def test_a_page_that_nobody_gave_is_refused(page):
    with pytest.raises(InvalidValue) as failure:
        page_of_buckets(0, 7 * 86400, Group.DAY, 7, page)
    assert failure.value.param == "page"


@pytest.mark.parametrize(("start", "end"), [(5, 5), (6, 5), (-1, 5), (0, LATEST + 1), (10**400, 10**401)])
def test_a_range_that_is_none_is_refused(start, end):
    with pytest.raises(InvalidValue, match="the end is after the start"):
        page_of_buckets(start, end, Group.DAY, 7)


def test_the_present_period_is_whole():
    assert end_of(NOW, Group.DAY) == datetime(2026, 11, 24, tzinfo=UTC).timestamp()
