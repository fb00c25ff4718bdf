"""What clients are told of their limits (openai-images-api.md section 5.1), and when to try again."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.errors import on_failure
from gateway.api.limits import limit_headers
from gateway.domain.errors import OutcomeUnknown, QuotaExhausted, RateLimitReached
from gateway.domain.limits import SHORT, Limit, given_back
from tests.builders import a_room

REQUEST = SimpleNamespace(state=SimpleNamespace())
IMAGES = [Limit.IMAGES_PER_MINUTE, Limit.IMAGES_PER_DAY, Limit.IMAGES_PER_MONTH]
rooms = st.lists(
    st.builds(
        a_room,
        st.sampled_from(Limit),
        value=st.integers(0, 100),
        used=st.integers(0, 120),
        resets_in=st.integers(0, 3_000_000_000),
    ),
    max_size=12,
)


def headers_of(unit, room):
    found = limit_headers([room])
    return [found[f"x-ratelimit-{word}-{unit}"] for word in ("limit", "remaining", "reset")]


def test_without_limits_nothing_is_said():
    assert limit_headers([]) == {}


@pytest.mark.parametrize("limit", [Limit.CONCURRENT, Limit.SPEND_PER_MONTH])
def test_there_are_no_headers_for_other_limits(limit):
    assert limit_headers([a_room(limit)]) == {}


@pytest.mark.parametrize("limit", IMAGES)
def test_the_images_of_a_window(limit):
    assert headers_of("images", a_room(limit, value=10, used=4, resets_in=30_000)) == ["10", "6", "30"]


@pytest.mark.parametrize(
    ("milliseconds", "images", "requests"),
    [
        (0, "0", "0s"),
        (1, "1", "1s"),
        (999, "1", "1s"),
        (1_000, "1", "1s"),
        (59_000, "59", "59s"),
        (59_001, "60", "1m0s"),
        (360_000, "360", "6m0s"),
        (361_500, "362", "6m2s"),
        (7_200_000, "7200", "120m0s"),
    ],
)
def test_the_time_is_rounded_up_and_written_as_openai_does(milliseconds, images, requests):
    assert headers_of("images", a_room(resets_in=milliseconds))[2] == images
    assert headers_of("requests", a_room(Limit.REQUESTS_PER_MINUTE, resets_in=milliseconds))[2] == requests


def test_no_less_than_nothing_remains():
    """A settlement may charge over a limit, and shadow limits refuse nobody."""
    assert headers_of("images", a_room(value=10, used=13))[1] == "0"


def test_the_tightest_window_of_each_unit_is_told():
    told = limit_headers(
        [
            a_room(Limit.IMAGES_PER_MONTH, value=1000, used=10, resets_in=900_000_000),
            a_room(Limit.IMAGES_PER_DAY, value=50, used=47, resets_in=9_000_000),
            a_room(Limit.IMAGES_PER_MINUTE, value=5, used=1, resets_in=61_000),
            a_room(Limit.CONCURRENT, value=1, used=1),
            a_room(Limit.REQUESTS_PER_MINUTE, value=60, used=1, resets_in=61_000),
            a_room(Limit.REQUESTS_PER_MINUTE, subject="project.proj_1", value=20, used=19, resets_in=2_000),
        ]
    )
    assert told == {
        "x-ratelimit-limit-requests": "20",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-limit-images": "50",
        "x-ratelimit-remaining-images": "3",
        "x-ratelimit-reset-images": "9000",
    }


@given(rooms=rooms)
def test_no_window_has_less_left_than_is_told(rooms):
    told = limit_headers(rooms)
    for unit, limits in (("images", IMAGES), ("requests", [Limit.REQUESTS_PER_MINUTE])):
        left = [max(room.value - room.used, 0) for room in rooms if room.limit in limits]
        assert told.get(f"x-ratelimit-remaining-{unit}") == (str(min(left)) if left else None)
        assert sum(name.endswith(unit) for name in told) == (3 if left else 0)


@given(limit=st.sampled_from(sorted(SHORT)), wait=st.integers(0, 10**9))
def test_a_short_limit_says_when_to_try_again_within_a_minute(limit, wait):
    """Clients ignore, or give up on, a retry-after of more than 60 s (section 8, trap 10)."""
    answer = on_failure(REQUEST, RateLimitReached("wait", a_room(limit, resets_in=wait)))
    seconds, milliseconds = int(answer.headers["retry-after"]), int(answer.headers["retry-after-ms"])
    assert 1 <= seconds <= 60
    assert 1 <= milliseconds <= 60_000
    assert milliseconds == min(max(wait, 1), 60_000)
    assert seconds - 1 < milliseconds / 1000 <= seconds
    assert "x-should-retry" not in answer.headers
    assert answer.status_code == 429


@pytest.mark.parametrize("limit", sorted(set(Limit) - SHORT))
def test_a_long_limit_says_not_to_try_again(limit):
    answer = on_failure(REQUEST, QuotaExhausted("enough", a_room(limit, value=10, used=10, resets_in=10**9)))
    assert answer.status_code == 429
    assert answer.headers["x-should-retry"] == "false"
    assert not [name for name in answer.headers if name.startswith("retry-after")]


def test_a_refusal_tells_of_the_limit_that_stood_in_the_way():
    answer = on_failure(REQUEST, QuotaExhausted("enough", a_room(Limit.IMAGES_PER_DAY, value=10, used=9)))
    assert answer.headers["x-ratelimit-limit-images"] == "10"
    assert answer.headers["x-ratelimit-remaining-images"] == "1"


def test_what_was_given_back_is_free_again():
    rooms = [a_room(limit, value=10, used=4) for limit in Limit]
    before, after = limit_headers(rooms), limit_headers(given_back(rooms, 3))
    assert (before["x-ratelimit-remaining-images"], after["x-ratelimit-remaining-images"]) == ("6", "9")
    assert after["x-ratelimit-remaining-requests"] == before["x-ratelimit-remaining-requests"]


def test_a_failure_after_the_limits_were_taken_tells_of_them_too():
    generation = SimpleNamespace(rooms=(a_room(Limit.IMAGES_PER_DAY, value=10, used=3),), queue_ms=7)
    request = SimpleNamespace(state=SimpleNamespace(generation=generation))
    answer = on_failure(request, OutcomeUnknown("cut"))
    assert answer.headers["x-ratelimit-remaining-images"] == "7"
    assert answer.headers["x-glm-queue-ms"] == "7"
    assert answer.headers["x-should-retry"] == "false"
