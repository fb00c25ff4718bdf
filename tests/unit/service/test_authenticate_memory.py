"""A key is remembered until it is said to have changed, for 30 seconds, and for an hour while SQL is down."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.keys import digest_of
from gateway.service.authenticate import MEMORY_ENTRIES, MEMORY_SECONDS, STALE_SECONDS
from tests.builders import NOW, PEPPER, a_project, a_secret, a_stored_key
from tests.fakes import settle
from tests.studio import SECRET, Door

pytestmark = pytest.mark.anyio


async def test_an_unknown_key_is_looked_up_once_in_thirty_seconds():
    door, unknown = Door(), a_secret("999999999999")
    assert [await door.lets_in(unknown) for _ in range(3)] == [False] * 3
    door.clock.seconds = 29.9
    assert not await door.lets_in(unknown)
    assert door.keys.lookups == ["999999999999"]


async def test_a_remembered_key_still_expires_on_time():
    door = Door(a_stored_key(SECRET, expires_at=NOW + timedelta(seconds=0.5)))
    assert await door.lets_in()
    door.clock.seconds = 0.5
    assert not await door.lets_in()
    assert len(door.keys.lookups) == 1


async def test_within_thirty_seconds_a_key_is_looked_up_once():
    assert MEMORY_SECONDS == 30
    door = Door()
    assert all([await door.lets_in() for _ in range(5)])
    door.clock.seconds = 29.9
    assert await door.lets_in()
    assert len(door.keys.lookups) == 1


@pytest.mark.parametrize("usable", [True, False])
async def test_after_thirty_seconds_a_change_is_felt_though_nobody_told(usable):
    key = a_stored_key(SECRET)
    revoked = replace(key, revoked_at=NOW)
    door = Door(revoked if usable else key)
    assert await door.lets_in() is not usable
    door.keys.keys[key.id] = key if usable else revoked
    door.clock.seconds = 29.9
    assert await door.lets_in() is not usable
    door.clock.seconds = 30.0
    assert await door.lets_in() is usable


async def test_a_slow_look_up_does_not_make_the_memory_longer():
    """The answer is as old as the question: the key is revoked while it is under way, and refused 30 s later."""
    key = a_stored_key(SECRET)
    door = Door(key)
    get = door.keys.get

    async def slowly_get(key_id):
        found = await get(key_id)
        await door.keys.revoke(key_id, door.clock.now())
        door.clock.seconds += 15
        return found

    door.keys.get = slowly_get
    assert await door.lets_in()
    door.clock.seconds = 30.0
    assert not await door.lets_in()


async def test_a_key_may_be_made_after_it_was_asked_for():
    door = Door(a_stored_key(a_secret("000000000000")))
    assert not await door.lets_in()
    await door.keys.add(a_stored_key(SECRET, name="made later"))
    assert not await door.lets_in()
    door.authenticate.forget(SECRET[7:19])
    assert await door.lets_in()


@pytest.mark.parametrize("step", [3, 6, 9, 12, 21, 27])
async def test_a_memory_that_runs_out_during_a_request_does_not_break_it(step):
    """Time passes between any two looks at the clock."""
    door = Door(step=step)
    assert all([await door.lets_in() for _ in range(50)])


async def test_the_memory_is_bounded():
    """Well-formed keys are easily made up: their number must not fill the process."""
    door = Door()
    for number in range(MEMORY_ENTRIES + 500):
        await door.lets_in(a_secret(f"{number:012}"))
    assert len(door.keys.lookups) == MEMORY_ENTRIES + 500
    assert len(door.authenticate._memory) <= MEMORY_ENTRIES
    assert await door.lets_in()


async def test_many_requests_at_once_are_all_answered():
    door = Door()
    assert all(await asyncio.gather(*(door.lets_in() for _ in range(100))))
    assert len(door.keys.lookups) == 1


@pytest.mark.parametrize("subject", ["key", "project", "everything"])
async def test_a_change_that_is_told_is_felt_at_once(subject):
    key, other = a_stored_key(SECRET, project=a_project(id="proj_1")), a_secret("000000000000")
    door = Door(key, a_stored_key(other, project=a_project(id="proj_2")))
    assert await door.lets_in()
    assert await door.lets_in(other)
    await door.keys.revoke(key.id, NOW)
    tell = {
        "key": lambda: door.authenticate.forget(key.id),
        "project": lambda: door.authenticate.forget("proj_1"),
        "everything": door.authenticate.forget_all,
    }
    tell[subject]()
    assert not await door.lets_in()
    assert await door.lets_in(other)
    assert door.keys.lookups.count("000000000000") == (2 if subject == "everything" else 1)


async def test_a_change_of_another_is_none_of_this_ones():
    door = Door()
    assert await door.lets_in()
    door.authenticate.forget("proj_2")
    door.authenticate.forget("999999999999")
    assert await door.lets_in()
    assert len(door.keys.lookups) == 1


@pytest.mark.parametrize("subject", [SECRET[7:19], "proj_default", None])
async def test_an_answer_that_was_under_way_during_a_change_is_not_remembered(subject):
    door = Door()
    door.keys.gate.clear()
    early = asyncio.create_task(door.lets_in())
    await settle()
    await door.keys.revoke(SECRET[7:19], NOW)
    if subject:
        door.authenticate.forget(subject)
    else:
        door.authenticate.forget_all()
    late = asyncio.create_task(door.lets_in())
    await settle()
    door.keys.gate.set()
    assert (await early, await late) == (True, False)
    assert not await door.lets_in()
    assert len(door.keys.lookups) == 2


async def test_a_first_client_that_leaves_does_not_spoil_the_look_up_of_the_others():
    door = Door()
    door.keys.gate.clear()
    leaver, stayer = asyncio.create_task(door.lets_in()), asyncio.create_task(door.lets_in())
    await settle()
    leaver.cancel()
    await settle()
    door.keys.gate.set()
    assert await stayer
    assert len(door.keys.lookups) == 1


async def test_while_sql_is_down_known_keys_open_for_an_hour_more():
    key, expires = a_stored_key(SECRET), NOW + timedelta(seconds=STALE_SECONDS - 60)
    mortal = a_stored_key(a_secret("000000000000"), expires_at=expires)
    door = Door(key, mortal)
    assert await door.lets_in()
    assert await door.lets_in(a_secret("000000000000"))
    door.keys.down = True
    door.clock.seconds = STALE_SECONDS - 1
    assert await door.lets_in()
    assert not await door.lets_in(a_secret("000000000000"))
    with pytest.raises(DatabaseUnavailable):
        await door.lets_in(a_secret("999999999999"))
    door.clock.seconds = STALE_SECONDS
    with pytest.raises(DatabaseUnavailable):
        await door.lets_in()
    door.keys.down = False
    assert await door.lets_in()


async def test_a_known_key_does_not_wait_for_a_database_that_stands_still():
    """Only the first request that comes upon it does; after ten seconds it is asked again as before."""
    door, answered = Door(), asyncio.Event()
    assert await door.lets_in()

    async def never_get(_):
        await answered.wait()
        raise DatabaseUnavailable("it stands still")

    door.keys.get, door.clock.seconds = never_get, 40.0
    first = asyncio.create_task(door.lets_in())
    await settle()
    assert not first.done()
    answered.set()
    assert await first
    answered.clear()
    async with asyncio.timeout(5):
        assert all([await door.lets_in() for _ in range(3)])
    door.clock.seconds += 10
    later = asyncio.create_task(door.lets_in())
    await settle()
    assert not later.done()
    answered.set()
    assert await later


async def test_a_change_that_was_made_as_soon_as_the_database_answers_is_felt():
    key = a_stored_key(SECRET)
    door = Door(key)
    assert await door.lets_in()
    door.keys.down, door.clock.seconds = True, 31.0
    assert await door.lets_in()
    door.keys.down = False
    door.keys.keys[key.id] = replace(key, revoked_at=NOW)
    await door.lets_in()
    await settle()
    assert not await door.lets_in()


async def test_a_look_up_that_failed_is_made_again():
    door = Door()
    door.keys.down = True
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await door.lets_in()
    door.keys.down = False
    assert await door.lets_in()
    assert len(door.keys.lookups) == 3


async def test_a_secret_that_was_rotated_out_at_once_does_not_open():
    new = a_secret(random="n" * 32)
    door = Door()
    assert await door.lets_in()
    await door.keys.replace_secret(SECRET[7:19], digest_of(PEPPER, new), new[-4:], None)
    door.authenticate.forget(SECRET[7:19])
    assert (await door.lets_in(new), await door.lets_in()) == (True, False)
