"""What a report is asked: periods, groups and times."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import InvalidValue
from gateway.domain.reports import SECONDS, Group, parse_groups, parse_since, period

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
