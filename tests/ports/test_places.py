"""What is promised of places under `concurrent` limits: who finds none waits in line, and nobody is passed over."""

import asyncio

import pytest

from gateway.domain.limits import Limit
from gateway.domain.quota import Limits, Refusal, Reservation
from tests.ports.flight_shop import FOREVER, project, sought
from tests.ports.quota_shop import PRICE, event
from tests.ports.quota_stores import LEASE
from tests.ports.test_jobs import SHORT, die, lose, until

pytestmark = pytest.mark.anyio
ONE, TWO = Limits(concurrent=1), Limits(concurrent=2)


async def line_of(at):
    return await at.store.line(at.project)


def ids(*reservations):
    return [reservation.claim.request_id for reservation in reservations]


async def test_above_the_limit_a_request_takes_all_but_a_place_and_waits(at):
    first = await at.reserve(2, key=ONE)
    second = await at.reserve(3, key=Limits(concurrent=1, images_per_day=9))
    assert (first.waits, second.waits) == (False, True)
    assert {room.limit: room.used for room in second.rooms} == {Limit.IMAGES_PER_DAY: 5, Limit.CONCURRENT: 1}
    assert await at.used(Limit.IMAGES_PER_DAY) == 5
    assert await at.used(Limit.SPEND_PER_MONTH) == 5 * PRICE
    assert await at.used(Limit.CONCURRENT) == await at.used(Limit.CONCURRENT, subject=1) == 1
    assert await line_of(at) == ids(second)
    assert await at.reserve(3, key=second.claim.subjects[0].limits, request_id=second.claim.request_id) == second


@pytest.mark.parametrize("ending", ["settled", "released"])
async def test_whoever_came_first_gets_the_place_that_becomes_free(at, ending):
    running, *waiting = [await at.reserve(key=ONE) for _ in range(4)]
    assert await line_of(at) == ids(*waiting)
    while waiting:
        for _ in range(2):  # what is done twice lets in once
            await (at.settle(running, 1) if ending == "settled" else at.quotas.release(running.claim))
        running = waiting.pop(0)
        assert await line_of(at) == ids(*waiting)
        assert await at.used(Limit.CONCURRENT) == 1
    await at.settle(running, 1)
    assert await at.used(Limit.CONCURRENT) == 0


async def test_what_ends_while_it_waits_leaves_the_line_and_gives_back_what_it_took(at):
    running, gone, last, left = [await at.reserve(2, key=ONE) for _ in range(4)]
    await at.quotas.release(left.claim)
    assert await line_of(at) == ids(gone, last)
    await at.quotas.release(gone.claim)
    assert await line_of(at) == ids(last)
    assert await at.used(Limit.IMAGES_PER_DAY) == 4
    await at.settle(running, 2)
    assert await line_of(at) == []


async def test_other_limits_and_a_limit_of_nothing_refuse_before_anybody_waits(at):
    await at.reserve(key=ONE)
    refused = await at.reserve(key=ONE, project=Limits(images_per_day=1))
    assert refused.room.limit is Limit.IMAGES_PER_DAY
    nothing = await at.reserve(key=Limits(concurrent=0))
    assert (nothing.room.limit, nothing.room.value, nothing.room.used) == (Limit.CONCURRENT, 0, 1)
    shadow = await at.reserve(key=Limits(concurrent=1, shadow=True))
    assert (shadow.waits, [room.limit for room in shadow.shadowed]) == (False, [Limit.CONCURRENT])
    assert await line_of(at) == []


async def test_a_line_that_is_long_enough_takes_nobody_any_more(at):
    quotas = at.store.replica(most_waiting=1)
    running, waiting = [await quotas.reserve(at.claim(key=ONE)) for _ in range(2)]
    refused = await quotas.reserve(at.claim(key=ONE))
    assert isinstance(refused, Refusal)
    assert (refused.room.limit, refused.room.used, refused.room.resets_in) == (Limit.CONCURRENT, 1, 1_000)
    assert await at.used(Limit.IMAGES_PER_DAY) == 2
    await at.settle(running, 1)
    assert await line_of(at) == []
    assert (await quotas.reserve(at.claim(key=ONE))).waits
    assert not isinstance(waiting, Refusal)


async def test_who_waits_longer_under_a_lower_limit_is_not_passed_over(at):
    first, second = [await at.reserve(key=TWO) for _ in range(2)]
    lower, higher = await at.reserve(key=ONE), await at.reserve(key=TWO)
    await at.settle(first, 1)
    assert await line_of(at) == ids(lower, higher)
    await at.settle(second, 1)
    assert await line_of(at) == []


async def test_a_higher_limit_lets_nobody_pass_who_came_later(at):
    running, first = await at.reserve(key=ONE), await at.reserve(key=ONE)
    later = await at.reserve(key=TWO)
    assert later.waits
    await at.settle(running, 1)
    assert await line_of(at) == []
    assert await at.used(Limit.CONCURRENT) == 2
    assert await at.used(Limit.IMAGES_PER_DAY) == 3
    assert first.waits


async def test_what_a_dead_replica_had_in_line_is_given_back_and_what_it_ran_goes_to_others(at):
    dying = at.store.replica("dying", LEASE)
    alive = at.store.replica("alive", FOREVER)
    await dying.reserve(at.claim(key=ONE))
    waits = await alive.reserve(at.claim(key=ONE))
    await dying.reserve(at.claim(key=ONE))
    last = await alive.reserve(at.claim(key=ONE))
    await at.live(1)
    assert await at.live(LEASE + 1) == 2
    assert await line_of(at) == ids(last)
    assert await at.used(Limit.CONCURRENT) == 1
    await alive.settle(waits, 1, event(waits.claim.request_id, at.project))
    assert await line_of(at) == []


async def test_after_a_loss_who_waited_runs_over_the_limit_if_need_be(at):
    reservations = [await at.reserve(key=ONE) for _ in range(3)]
    await at.store.lose()
    await at.open()
    for reservation in reservations:
        await at.quotas.take_again(reservation.claim)
    assert await at.used(Limit.CONCURRENT) == 3
    assert (await at.reserve(key=ONE)).waits
    for reservation in reservations:
        await at.settle(reservation, 1)
    assert await line_of(at) == []
    assert await at.used(Limit.CONCURRENT) == 1


async def turn(at, reservation, on=None):
    """Wait for it, but not for ever: a test that hangs says nothing."""
    return asyncio.create_task(asyncio.wait_for((on or at.at).flights.turn(reservation), 60))


async def test_each_waits_for_its_turn_and_the_keys_and_the_projects_limit_both_count(server):
    """Who waits for its key holds nobody up; where the project is full, everybody waits in order."""
    async with project(server, replicas=2, listening=True) as at:
        busy = await at.ask(sought(), limits=ONE, all_limits=TWO)
        waits = await at.ask(sought(), limits=ONE, all_limits=TWO)
        other = await at.ask(sought(), key="other", limits=ONE, all_limits=TWO, on=at.replicas[1])
        last = await at.ask(sought(), key="third", limits=ONE, all_limits=TWO, on=at.replicas[1])
        assert [one.waits for one in (busy, waits, other, last)] == [False, True, False, True]
        turns = [await turn(at, waits), await turn(at, last, at.replicas[1])]
        await at.settle(other, on=at.replicas[1])
        assert await turns[1]
        assert not turns[0].done()
        await at.settle(busy)
        assert await turns[0]
        assert (await at.images())[2] == 2


async def test_a_turn_is_known_however_often_it_is_asked_for_and_one_that_never_comes_is_told(server):
    async with project(server, replicas=2, lease=SHORT) as at:
        running = await at.ask(sought(), limits=ONE, on=at.replicas[1])
        waits = await at.ask(sought(), limits=ONE)
        never = await turn(at, waits)
        await die(at)
        assert await never is False
        second = await at.ask(sought(), limits=ONE, on=at.replicas[1])
        await at.replicas[1].flights.vacate(running)
        for _ in range(2):
            assert await (await turn(at, second, at.replicas[1]))


async def test_who_waits_while_the_store_is_lost_gets_its_turn_when_it_is_taken_again(server):
    async with project(server) as at:
        running, waits = [await at.ask(sought(), limits=ONE) for _ in range(2)]
        waiting = await turn(at, waits)
        await lose(at, taken_again=False)
        await asyncio.sleep(0.3)
        assert not waiting.done()
        for claim in at.at.quotas.held(at.names.shard):
            await at.at.quotas.take_again(claim)
        assert await waiting
        await at.settle(running)
        await at.settle(waits)
        assert (await at.images())[2] == 0


async def test_in_a_crowd_no_more_run_than_may_and_everybody_gets_a_turn(server):
    """Some leave the line; places go round however the jobs of two keys end."""
    async with project(server, replicas=2, listening=True) as at:
        ran, most, runs = [], 0, 0

        async def job(number):
            nonlocal most, runs
            replica = at.replicas[number % 2]
            key = "even" if number % 4 < 2 else "odd"
            reservation = await at.ask(sought(), key=key, limits=ONE, all_limits=TWO, on=replica)
            assert isinstance(reservation, Reservation)
            if reservation.waits and number % 5 == 0:
                await replica.quotas.release(reservation.claim)
                return
            if reservation.waits:
                assert await (await turn(at, reservation, replica))
            runs += 1
            most = max(most, runs)
            await asyncio.sleep(0.002)
            runs -= 1
            ran.append(number)
            await at.settle(reservation, on=replica)

        await asyncio.gather(*map(job, range(30)))
        assert most <= 2
        assert {number for number in range(30) if number % 5} <= set(ran)
        await until(lambda: nothing_runs(at))


async def nothing_runs(at):
    return (await at.images())[2] == 0
