"""A secret shows itself only when asked."""

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.secret import Secret

TEXT = "s3cret"


@dataclass
class Box:
    inside: Secret


class Struct(msgspec.Struct):
    inside: Secret


HELD = [Secret(TEXT), [Secret(TEXT)], {"inside": Secret(TEXT)}, Box(Secret(TEXT)), Struct(Secret(TEXT))]


@pytest.mark.parametrize("held", HELD, ids=[type(held).__name__ for held in HELD])
def test_it_is_not_shown(held):
    for shown in (repr(held), str(held), f"{held}", f"{held!r}", "%s" % (held,), ascii(held)):  # noqa: UP031 - the old form too
        assert TEXT not in shown
        assert "***" in shown


def test_it_is_not_shown_in_errors():
    with pytest.raises(AttributeError) as failure:
        Secret(TEXT).text  # noqa: B018 - it must raise
    assert TEXT not in str(failure.value)
    with pytest.raises(TypeError) as failure:
        msgspec.json.encode(Secret(TEXT))
    assert TEXT not in str(failure.value)


def test_its_length_is_not_shown():
    assert repr(Secret("x")) == repr(Secret("x" * 100))


def test_an_empty_one_is_seen_to_be_empty():
    assert (repr(Secret("")), bool(Secret("")), bool(Secret("x"))) == ("''", False, True)


@given(one=st.text(), other=st.text())
def test_it_is_its_text(one, other):
    assert Secret(one).reveal() == one
    assert (Secret(one) == Secret(other)) is (one == other)
    assert Secret(one) != one
    assert len({Secret(one), Secret(one), Secret(other)}) == len({one, other})
