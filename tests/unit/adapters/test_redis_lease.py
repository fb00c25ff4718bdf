"""A replica that stood still knows by its own clock that it may have been taken for dead."""

import time

from gateway.adapters.redis.lease import Lease


def test_a_lease_that_was_never_renewed_covers_nothing():
    assert not Lease(60).covers(time.monotonic())


def test_a_lease_covers_what_began_in_it_for_as_long_as_it_is_renewed():
    now, lease = time.monotonic(), Lease(60)
    lease.renewed(now - 100)
    lease.renewed(now - 50)
    assert lease.covers(now - 70)
    assert not lease.covers(now - 101)


def test_a_lease_that_ended_covers_nothing_from_before_its_end_even_when_it_is_renewed():
    now, lease = time.monotonic(), Lease(60)
    lease.renewed(now - 100)
    assert not lease.covers(now - 90)
    lease.renewed(now)
    assert not lease.covers(now - 90)
    assert lease.covers(now)
