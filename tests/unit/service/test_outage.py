"""What an outage of the quota store means for limits, and that every change is told once."""

import pytest

from gateway.service.outage import QuotaOutage

ANSWERS = [False, False, True, True, False, False, True]


@pytest.mark.parametrize(("allow", "told"), [(True, [True, False, True]), (False, [])])
def test_what_changes_is_told_once(allow, told):
    heard = []
    outage = QuotaOutage(heard.append, allow=allow)
    for away in ANSWERS:
        outage.note(away=away)
        assert outage.away == away
        assert outage.limits_off == (away and allow)
    assert heard == told
