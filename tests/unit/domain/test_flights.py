"""How a picture ended is told to others in words, and understood again."""

import msgspec
import pytest

from gateway.domain import errors
from gateway.domain.errors import (
    ContentRefused,
    GatewayError,
    ImageDownloadFailed,
    Moderation,
    OutcomeUnknown,
    QueueTimedOut,
    QuotaExhausted,
    ShuttingDown,
    UpstreamBroken,
    UpstreamFailed,
    UpstreamRejected,
)
from gateway.domain.flights import WITHDRAWN, End, Failure, replayable
from tests.builders import a_picture, a_room

ANSWERS = [
    UpstreamBroken("it broke"),
    UpstreamRejected("not this size", param="size"),
    ContentRefused(Moderation(stage="output", categories=("violence",))),
    OutcomeUnknown("cut"),
    ImageDownloadFailed("gone"),
]


@pytest.mark.parametrize("failure", ANSWERS, ids=lambda failure: type(failure).__name__)
def test_a_failure_is_the_same_after_it_was_written_down(failure):
    end = msgspec.json.decode(msgspec.json.encode(End.of(failure)), type=End)
    again = end.failure.error()
    assert type(again) is type(failure)
    assert (again.message, again.param) == (failure.message, failure.param)
    assert getattr(again, "moderation", None) == getattr(failure, "moderation", None)


def test_a_picture_is_the_same_after_it_was_written_down():
    end = End.of(a_picture())
    assert msgspec.json.decode(msgspec.json.encode(end), type=End) == end


def test_a_failure_of_a_newer_release_is_still_the_upstreams():
    assert type(Failure(kind="NotInventedYet", message="well").error()) is UpstreamFailed


def test_every_failure_that_is_made_of_a_message_comes_back_as_what_it_was():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]
    plain = [kind for kind in kinds if not issubclass(kind, errors.LimitReached | ContentRefused)]
    assert len(plain) > 30
    assert [type(Failure.of(kind("said", param="n")).error()) for kind in plain] == plain


@pytest.mark.parametrize(
    "refusal", [QueueTimedOut("full"), ShuttingDown("bye"), QuotaExhausted("used up", a_room())], ids=repr
)
def test_a_refusal_of_the_leaders_own_is_no_answer_for_others(refusal):
    assert End.of(refusal) == WITHDRAWN
    assert not replayable([refusal, UpstreamBroken("it broke")])


@pytest.mark.parametrize("end", [a_picture(), *ANSWERS[1:]], ids=lambda end: type(end).__name__)
def test_what_cannot_end_otherwise_is_replayed(end):
    assert replayable([UpstreamBroken("it broke"), end])
