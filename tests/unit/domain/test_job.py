"""What a request looks for before its pictures are made."""

import pytest

from gateway.domain.asked import Asked
from gateway.domain.job import CacheRules, sought_by
from tests.builders import a_caller, an_order

HOUR = 3_600.0


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("lifetime", [1 * HOUR, 22 * HOUR, 24 * HOUR, 7 * 24 * HOUR])
def test_what_is_remembered_is_fresh_for_its_lifetime_and_a_mere_url_for_23_hours(linked, lifetime):
    rules = CacheRules(lifetime=lifetime)
    asked = Asked(request_id="request", strict=False)
    sought = sought_by(a_caller(), an_order(linked=linked, response_format="url"), asked, rules)
    assert sought.lifetime == lifetime
    assert sought.fresh == (min(lifetime, 23 * HOUR) if linked else lifetime)
    assert sought.of_one("job", 0).fresh == 24 * HOUR
