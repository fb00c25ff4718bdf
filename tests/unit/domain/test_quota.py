"""Windows of the calendar in any zone, shards of projects, and requests that no window could hold."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import InvalidValue
from gateway.domain.limits import Limit
from gateway.domain.quota import SHARDS, Limits, calendar_of, shard_of, subject_names

ZONES = [
    *("UTC", "Asia/Shanghai", "Asia/Kolkata", "Asia/Kathmandu", "America/New_York", "Europe/Berlin", "Pacific/Apia"),
    *("Australia/Lord_Howe", "Antarctica/Troll", "Pacific/Kiritimati", "America/St_Johns", "Africa/Casablanca"),
    *("Africa/Cairo", "Asia/Beirut", "America/Havana", "America/Santiago"),  # these change their clocks at midnight
]
HOUR = 3_600_000


def at(*words, zone="UTC"):
    return round(datetime(*words, tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def changes_of(zone):
    """The moments in 2026 and 2027 at which a zone's clocks are changed, to the hour."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    hours = [start + timedelta(hours=number) for number in range(2 * 365 * 24)]
    offsets = [moment.astimezone(ZoneInfo(zone)).utcoffset() for moment in hours]
    pairs = zip(hours[1:], offsets, offsets[1:], strict=False)
    return [round(moment.timestamp() * 1000) for moment, before, after in pairs if before != after]


CHANGES = {zone: changes_of(zone) for zone in ZONES}


@st.composite
def moments(draw):
    """A zone and a moment in it: any of forty years, or one near a change of its clocks."""
    zone = draw(st.sampled_from(ZONES))
    any_time = st.integers(at(2015, 1, 1), at(2055, 1, 1))
    if not CHANGES[zone]:
        return zone, draw(any_time)
    near = st.builds(int.__add__, st.sampled_from(CHANGES[zone]), st.integers(-30 * HOUR, 30 * HOUR))
    return zone, draw(st.one_of(any_time, near))


@given(where=moments())
def test_a_moment_lies_in_its_first_day_and_its_first_month(where):
    zone, moment = where
    calendar = calendar_of(moment, ZoneInfo(zone))
    local = datetime.fromtimestamp(moment / 1000, ZoneInfo(zone))
    day, month = calendar.days[0], calendar.months[0]
    assert day.starts <= moment < day.ends
    assert month.starts <= moment < month.ends
    assert month.starts <= day.starts < day.ends <= month.ends
    assert (day.name, month.name) == (f"{local:%Y-%m-%d}", f"{local:%Y-%m}")


@given(where=moments())
def test_consecutive_periods_meet(where):
    zone, moment = where
    for (first, second), kind in zip(
        (calendar_of(moment, ZoneInfo(zone)).days, calendar_of(moment, ZoneInfo(zone)).months),
        ("days", "months"),
        strict=True,
    ):
        assert first.ends == second.starts < second.ends
        assert first.name < second.name
        assert getattr(calendar_of(first.ends, ZoneInfo(zone)), kind)[0] == second
        assert getattr(calendar_of(first.ends - 1, ZoneInfo(zone)), kind)[0].name == first.name


@given(where=moments(), share=st.floats(0, 1, exclude_max=True))
def test_all_moments_of_a_day_find_the_same_day_and_month(where, share):
    zone, moment = where
    calendar = calendar_of(moment, ZoneInfo(zone))
    day = calendar.days[0]
    other = calendar_of(day.starts + int(share * (day.ends - day.starts)), ZoneInfo(zone))
    assert (other.days, other.months) == (calendar.days, calendar.months)


def test_a_midnight_that_comes_twice_begins_the_day_once():
    """Havana, 1 November 2026: at 1:00 clocks go back to 0:00. The day and the month begin at the first midnight."""
    first = at(2026, 11, 1, zone="America/Havana")
    for moment in (first, first + HOUR // 2, first + HOUR, first + HOUR * 3 // 2, first + 12 * HOUR):
        calendar = calendar_of(moment, ZoneInfo("America/Havana"))
        assert (calendar.days[0].starts, calendar.months[0].starts) == (first, first)


@pytest.mark.parametrize(
    ("zone", "date", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Europe/Berlin", (2026, 7, 1), 24),
        ("America/New_York", (2026, 11, 1), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Antarctica/Troll", (2026, 3, 29), 22),
        ("Africa/Cairo", (2026, 4, 24), 23),  # it begins at 1:00
        ("America/Havana", (2026, 11, 1), 25),
        ("Asia/Shanghai", (2026, 3, 29), 24),
    ],
)
def test_a_day_has_as_many_hours_as_its_zone_gives_it(zone, date, hours):
    day = calendar_of(at(*date, 12, zone=zone), ZoneInfo(zone)).days[0]
    assert day.name == f"{datetime(*date, tzinfo=UTC):%Y-%m-%d}"
    assert day.ends - day.starts == hours * HOUR


@pytest.mark.parametrize(
    ("date", "days", "months"),
    [
        ((2028, 2, 29), ("2028-02-29", "2028-03-01"), ("2028-02", "2028-03")),
        ((2028, 2, 28), ("2028-02-28", "2028-02-29"), ("2028-02", "2028-03")),
        ((2026, 2, 28), ("2026-02-28", "2026-03-01"), ("2026-02", "2026-03")),
        ((2100, 2, 28), ("2100-02-28", "2100-03-01"), ("2100-02", "2100-03")),
        ((2026, 1, 31), ("2026-01-31", "2026-02-01"), ("2026-01", "2026-02")),
        ((2026, 11, 30), ("2026-11-30", "2026-12-01"), ("2026-11", "2026-12")),
        ((2026, 12, 31), ("2026-12-31", "2027-01-01"), ("2026-12", "2027-01")),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
def test_months_end_where_the_calendar_says(zone, date, days, months):
    for clock in ((0, 0), (12, 0), (23, 59, 59, 999_000)):
        calendar = calendar_of(at(*date, *clock, zone=zone), ZoneInfo(zone))
        assert tuple(day.name for day in calendar.days) == days
        assert tuple(month.name for month in calendar.months) == months
        for period in calendar.months:
            year, month = map(int, period.name.split("-"))
            assert period.starts == at(year, month, 1, zone=zone)


def test_a_calendar_covers_two_days_and_no_more():
    days = calendar_of(at(2026, 11, 23, 12), UTC).days
    assert [(day.starts, day.ends) for day in days] == [
        (at(2026, 11, 23), at(2026, 11, 24)),
        (at(2026, 11, 24), at(2026, 11, 25)),
    ]


@given(project_id=st.text())
def test_a_shard_is_in_range(project_id):
    assert 0 <= shard_of(project_id) < SHARDS
    assert shard_of(project_id) == shard_of(str(project_id.encode(), "utf-8"))


@pytest.mark.parametrize(
    ("project_id", "number"), [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)]
)
def test_a_shard_is_stable_over_processes_and_releases(project_id, number):
    """FNV-1a's own test vectors: another number would leave the counts of a project behind."""
    assert shard_of(project_id) == number % 64


def test_projects_are_spread_over_all_shards():
    assert {shard_of(f"proj_{number}") for number in range(2000)} == set(range(SHARDS))


@given(ids=st.tuples(st.text(), st.text(), st.text(), st.text()))
def test_the_names_of_keys_and_projects_do_not_meet(ids):
    one, other = subject_names(*ids[:2]), subject_names(*ids[2:])
    assert one[0] != other[1]
    assert (one == other) is (ids[:2] == ids[2:])


COUNTED = (Limit.IMAGES_PER_MINUTE, Limit.IMAGES_PER_DAY, Limit.IMAGES_PER_MONTH)


def refused(limits, pictures, price):
    try:
        limits.refuse_too_many(pictures, price)
    except InvalidValue as failure:
        return f"{failure.param}: {failure.message}"
    return ""


@given(
    limit=st.sampled_from(COUNTED),
    value=st.none() | st.integers(0, 12),
    pictures=st.integers(1, 10),
    price=st.integers(0, 10),
)
def test_what_fits_with_fewer_pictures_is_said_so(limit, value, pictures, price):
    """A limit of nothing is left to the store: with no n could the request pass."""
    said = refused(Limits(**{limit.value: value}), pictures, price)
    assert bool(said) is (value is not None and 1 <= value < pictures)
    if said:
        assert f"{limit.value} lets {value} pass" in said
        assert said.startswith(f"n: 'n' is {pictures},")
        assert not refused(Limits(**{limit.value: value}), value, price)
    assert not refused(Limits(**{limit.value: value}, shadow=True), pictures, price)


@given(spend=st.integers(0, 100), pictures=st.integers(1, 10), price=st.integers(0, 30))
def test_money_lets_as_many_pass_as_it_pays(spend, pictures, price):
    said = refused(Limits(spend_per_month=spend), pictures, price)
    assert bool(said) is (price <= spend < pictures * price)
    if said:
        assert f"lets {spend // price} pass" in said
        assert not refused(Limits(spend_per_month=spend), spend // price, price)


def test_requests_and_concurrency_do_not_depend_on_n():
    assert not refused(Limits(requests_per_minute=1, concurrent=1), 10, 5)
