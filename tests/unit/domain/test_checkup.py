"""How clocks are judged that differ."""

from datetime import timedelta

import pytest

from gateway.domain.checkup import Verdict, clocks


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(0, Verdict.OK), (-1.9, Verdict.OK), (3, Verdict.WARNING), (-30, Verdict.WARNING), (61, Verdict.WRONG)],
)
def test_seconds_are_a_warning_and_minutes_are_wrong(seconds, verdict):
    found = clocks("redis clock", timedelta(seconds=seconds))
    assert found.verdict is verdict
    assert f"{seconds:+.1f} s" in found.said
