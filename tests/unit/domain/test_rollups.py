"""Which sums answer a question."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.reports import Group
from gateway.domain.rollups import LENGTHS, MOST_DAYS, MOST_HOURS, Grain, Stale, spans_of

MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NOTHING = Stale()
HOURS = st.frozensets(st.integers(0, 6 * 24).map(lambda number: MIDNIGHT + number * HOUR), max_size=30)
DAYS = st.frozensets(st.integers(0, 6).map(lambda number: MIDNIGHT + number * DAY))


def test_whole_days_then_whole_hours_then_lines():
    start, end = MIDNIGHT - 90 * MINUTE, MIDNIGHT + 2 * DAY + 3 * HOUR + MINUTE
    assert spans_of((start, end), Grain.DAY, NOTHING) == {
        Grain.DAY: [(MIDNIGHT, MIDNIGHT + 2 * DAY)],
        Grain.HOUR: [(MIDNIGHT - HOUR, MIDNIGHT), (MIDNIGHT + 2 * DAY, MIDNIGHT + 2 * DAY + 3 * HOUR)],
        Grain.LINE: [(start, MIDNIGHT - HOUR), (end - MINUTE, end)],
    }


def test_a_stale_hour_is_read_from_lines_and_the_rest_of_its_day_from_hours():
    stale = Stale(hours=frozenset({MIDNIGHT + 5 * HOUR}))
    assert spans_of((MIDNIGHT, MIDNIGHT + 2 * DAY), Grain.DAY, stale) == {
        Grain.DAY: [(MIDNIGHT + DAY, MIDNIGHT + 2 * DAY)],
        Grain.HOUR: [(MIDNIGHT, MIDNIGHT + 5 * HOUR), (MIDNIGHT + 6 * HOUR, MIDNIGHT + DAY)],
        Grain.LINE: [(MIDNIGHT + 5 * HOUR, MIDNIGHT + 6 * HOUR)],
    }


@given(
    bounds=st.tuples(st.integers(-3000, 12_000), st.integers(-3000, 12_000)),
    coarsest=st.sampled_from(Grain),
    stale=st.builds(Stale, HOURS, DAYS),
)
def test_every_moment_is_in_one_span_and_none_of_a_roll_up_is_stale(bounds, coarsest, stale):
    start, end = (MIDNIGHT + minutes * MINUTE for minutes in sorted(bounds))
    found = spans_of((start, end), coarsest, stale)
    spans = sorted(span for some in found.values() for span in some)
    assert sum((last - first for first, last in spans), timedelta()) == end - start
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert (len(found[Grain.DAY]), len(found[Grain.HOUR])) <= (MOST_DAYS, MOST_HOURS)
    for first, last in found[Grain.DAY]:
        assert not any(first <= at < last for at in stale.hours | stale.days)
    for first, last in found[Grain.HOUR]:
        assert not any(first <= at < last for at in stale.hours)
    for grain, group in ((Grain.DAY, Group.DAY), (Grain.HOUR, Group.HOUR)):
        assert not any((at - MIDNIGHT) % LENGTHS[group] for span in found[grain] for at in span)


def test_what_is_over_is_due_the_newest_first_and_a_day_after_its_hours():
    stale = Stale(frozenset({MIDNIGHT + HOUR, MIDNIGHT + 30 * HOUR}), frozenset({MIDNIGHT, MIDNIGHT - DAY}))
    assert stale.due(Group.HOUR, MIDNIGHT + 31 * HOUR) == [MIDNIGHT + 30 * HOUR, MIDNIGHT + HOUR]
    assert stale.due(Group.HOUR, MIDNIGHT + 31 * HOUR - MINUTE) == [MIDNIGHT + HOUR]
    assert stale.due(Group.DAY, MIDNIGHT + 2 * DAY) == [MIDNIGHT - DAY]
