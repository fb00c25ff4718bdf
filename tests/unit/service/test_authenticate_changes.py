"""The memory of keys: what changes is felt at once, what is not told in 30 s, and SQL may be away for a while."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_address, ip_network

import pytest

from gateway.domain.errors import AddressNotAllowed, DatabaseUnavailable, InvalidKey
from gateway.domain.keys import digest, mark_of
from gateway.domain.quota import Limits
from gateway.service.authenticate import MEMORY_SECONDS, STALE_SECONDS, Authenticate
from gateway.service.last_uses import WRITE_SECONDS, LastUses
from tests.fakes_administration import NOW, PEPPER, Clock, FakeKeys, FakeProjects, a_key, a_project, a_secret

pytestmark = pytest.mark.anyio

SECRET, OTHER = a_secret(), a_secret("other0000000")
KEY_ID = a_key().id
NEWER = b"a newer pepper"


class Door:
    """The use case on fakes; a store of one key."""

    def __init__(self, key=None, peppers=(PEPPER,)):
        project = a_project(limits=Limits(images_per_day=7), weight=3, markup=Decimal("1.25"))
        self.projects = FakeProjects(project)
        self.keys = FakeKeys(self.projects, key or a_key(project=project, limits=Limits(concurrent=1)))
        self.clock = Clock()
        self.uses = LastUses(self.keys, self.clock)
        self.authenticate = Authenticate(self.keys, peppers, self.clock, self.uses.renew)

    async def lets_in(self, secret=SECRET):
        try:
            await self.authenticate(secret)
        except InvalidKey:
            return False
        return True


async def test_the_caller_has_what_the_request_needs():
    caller = await Door().authenticate(SECRET)
    assert (caller.project_id, caller.project_name) == ("proj_design", "design")
    assert (caller.key_id, caller.key_name) == (KEY_ID, "tests")
    assert caller.project_limits == Limits(images_per_day=7)
    assert caller.key_limits == Limits(concurrent=1)
    assert caller.project_weight == 3
    assert caller.markup == Decimal("1.25")


async def test_without_news_a_change_is_felt_when_the_memory_ends():
    door = Door()
    assert await door.lets_in()
    await door.keys.revoke(KEY_ID, NOW)
    door.clock.seconds = MEMORY_SECONDS - 0.1
    assert await door.lets_in()
    door.clock.seconds = MEMORY_SECONDS
    assert not await door.lets_in()


@pytest.mark.parametrize("told", [KEY_ID, "proj_design"])
async def test_what_is_said_to_have_changed_is_looked_up_at_once(told):
    door = Door()
    assert await door.lets_in()
    await door.keys.revoke(KEY_ID, NOW)
    door.authenticate.forget("another")
    assert await door.lets_in()
    door.authenticate.forget(told)
    assert not await door.lets_in()


async def test_after_a_gap_everything_is_looked_up():
    door = Door()
    await door.lets_in()
    door.authenticate.forget_all()
    await door.lets_in()
    assert door.keys.lookups == [KEY_ID] * 2


async def test_an_unknown_key_is_known_once_it_was_made():
    door = Door(a_key(OTHER))
    assert not await door.lets_in()
    await door.keys.add(a_key(name="new"))
    door.authenticate.forget(KEY_ID)
    assert await door.lets_in()


@pytest.mark.parametrize("forget", [lambda a: a.forget(KEY_ID), lambda a: a.forget_all()], ids=["one", "all"])
async def test_an_answer_of_before_the_change_is_not_remembered(forget):
    door = Door()
    get = door.keys.get

    async def overtaken(key_id):
        found = await get(key_id)
        await door.keys.revoke(KEY_ID, NOW)
        forget(door.authenticate)
        return found

    door.keys.get = overtaken
    assert await door.lets_in()
    door.keys.get = get
    assert not await door.lets_in()


async def test_many_that_wait_for_one_key_ask_once():
    door = Door()
    assert all(await asyncio.gather(*(door.lets_in() for _ in range(100))))
    assert door.keys.lookups == [KEY_ID]


async def test_a_client_that_leaves_does_not_spoil_the_look_up_of_others():
    door = Door()
    first, second = asyncio.create_task(door.lets_in()), asyncio.create_task(door.lets_in())
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert door.keys.lookups == [KEY_ID]


async def test_while_sql_is_away_known_keys_are_let_in_and_others_are_not():
    door = Door()
    await door.lets_in()
    door.keys.down = True
    door.clock.seconds = STALE_SECONDS - 1
    assert await door.lets_in()
    with pytest.raises(DatabaseUnavailable):
        await door.lets_in(OTHER)
    door.clock.seconds = STALE_SECONDS
    with pytest.raises(DatabaseUnavailable):
        await door.lets_in()
    door.keys.down = False
    assert await door.lets_in()


async def two_keys_while_sql_is_away():
    """A door that has known two keys for so long that it looks them up."""
    door = Door()
    await door.keys.add(a_key(OTHER))
    assert await door.lets_in()
    assert await door.lets_in(OTHER)
    door.keys.down = True
    door.clock.seconds = MEMORY_SECONDS
    assert await door.lets_in()
    return door


async def looked_up():
    """Let what is asked beside be answered: the fake needs a few turns of the loop and no time."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_while_sql_is_away_it_is_asked_once_a_second_however_many_keys_are_used():
    door = await two_keys_while_sql_is_away()
    asked = len(door.keys.lookups)
    for tenth in range(50):
        door.clock.seconds = MEMORY_SECONDS + tenth / 10
        assert await door.lets_in()
        assert await door.lets_in(OTHER)
        await looked_up()
    assert 5 <= len(door.keys.lookups) - asked <= 6


async def test_a_look_up_that_hangs_keeps_no_other_key_from_asking():
    door = await two_keys_while_sql_is_away()
    get, hanging = door.keys.get, asyncio.Event()

    async def hang(key_id):
        if key_id == KEY_ID:
            await hanging.wait()
        return await get(key_id)

    door.keys.down, door.keys.get = False, hang
    await door.keys.revoke(door.keys.lookups[1], NOW)
    for _ in range(3):
        door.clock.seconds += 1
        assert await door.lets_in()
        await door.lets_in(OTHER)
        await looked_up()
    assert not await door.lets_in(OTHER)
    hanging.set()


async def test_once_sql_is_back_a_change_is_felt_by_every_key_that_is_used():
    door = await two_keys_while_sql_is_away()
    door.keys.down = False
    await door.keys.revoke(KEY_ID, NOW)
    door.clock.seconds += 1
    for secret in (OTHER, SECRET):  # each is looked up beside, whether or not a second is over
        assert await door.lets_in(secret)
        await looked_up()
    assert not await door.lets_in()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"revoked_at": NOW}, "revoked"),
        ({"disabled_at": NOW}, "disabled"),
        ({"expires_at": NOW}, "expired"),
        ({"project": a_project(archived_at=NOW)}, "archived"),
    ],
)
async def test_a_key_that_opens_no_more_says_why_without_showing_itself(changes, says):
    door = Door()
    door.keys = FakeKeys(FakeProjects(), a_key(**changes))
    door.authenticate = Authenticate(door.keys, [PEPPER], door.clock, door.uses.renew)
    with pytest.raises(InvalidKey, match=says) as failure:
        await door.authenticate(SECRET)
    assert SECRET not in failure.value.message
    with pytest.raises(InvalidKey, match="Incorrect"):
        await door.authenticate(a_secret(random="s" * 32))


async def test_after_a_rotation_both_secrets_open_for_a_while():
    new = a_secret(random="n" * 32)
    until = NOW + timedelta(seconds=10)
    previous = {"previous_digest": digest(PEPPER, SECRET), "previous_until": until}
    door = Door(a_key(digest=digest(PEPPER, new), **previous))
    assert await door.lets_in(SECRET)
    assert await door.lets_in(new)
    door.clock.seconds = 10
    assert not await door.lets_in(SECRET)
    assert await door.lets_in(new)


async def test_a_key_that_is_used_hangs_on_the_newest_secret_from_then_on():
    door = Door(peppers=(NEWER, PEPPER))
    assert await door.lets_in()
    assert await door.lets_in()
    await door.uses.write()
    key = await door.keys.get(KEY_ID)
    assert (key.digest, key.digested_with) == (digest(NEWER, SECRET), mark_of(NEWER))
    assert await Door(key, peppers=(NEWER,)).lets_in()
    assert not await Door(a_key(), peppers=(NEWER,)).lets_in()


async def test_of_a_key_from_before_it_is_noted_what_it_hangs_on():
    door = Door()
    await door.lets_in()
    await door.uses.write()
    key = await door.keys.get(KEY_ID)
    assert (key.digest, key.digested_with) == (digest(PEPPER, SECRET), mark_of(PEPPER))


async def test_a_secret_that_a_rotation_has_replaced_renews_nothing():
    new = digest(PEPPER, a_secret(random="n" * 32))
    previous = {"previous_digest": digest(PEPPER, SECRET), "previous_until": NOW + timedelta(hours=1)}
    door = Door(a_key(digest=new, digested_with=mark_of(PEPPER), **previous), peppers=(NEWER, PEPPER))
    assert await door.lets_in()
    await door.uses.write()
    assert (await door.keys.get(KEY_ID)).digest == new


async def test_who_is_refused_renews_nothing():
    door = Door(peppers=(NEWER, PEPPER))
    assert not await door.lets_in(a_secret(random="s" * 32))
    await door.uses.write()
    assert await door.keys.get(KEY_ID) == a_key(
        project=(await door.keys.get(KEY_ID)).project, limits=Limits(concurrent=1)
    )


async def test_a_key_opens_from_its_addresses_only():
    door = Door(a_key(ips=(ip_network("10.0.0.0/8"),)))
    await door.authenticate(SECRET, ip_address("10.1.2.3"))
    for address in (ip_address("192.0.2.1"), ip_address("::1"), None):
        with pytest.raises(AddressNotAllowed, match="address"):
            await door.authenticate(SECRET, address)
    with pytest.raises(InvalidKey):
        await door.authenticate(a_secret(random="s" * 32), ip_address("192.0.2.1"))


class TestLastUses:
    async def test_uses_are_written_together_once_a_minute(self):
        door, writes, written = Door(), [], asyncio.Event()
        touch, uses = door.keys.touch, LastUses(door.keys, door.clock)

        async def counted(used):
            writes.append(dict(used))
            await touch(used)
            written.set()

        door.keys.touch = counted
        for second in range(3):
            door.clock.seconds = second
            uses.note(KEY_ID)
        assert writes == []
        working = asyncio.create_task(uses.run())
        await written.wait()
        working.cancel()
        assert writes == [{KEY_ID: NOW + timedelta(seconds=2)}]
        assert door.clock.seconds >= WRITE_SECONDS
        assert (await door.keys.get(KEY_ID)).last_used_at == NOW + timedelta(seconds=2)

    async def test_a_failure_costs_the_batch_and_nothing_else(self):
        door = Door()
        uses = LastUses(door.keys, door.clock)
        uses.note(KEY_ID)
        door.keys.down = True
        await uses.write()
        door.keys.down = False
        await uses.write()
        assert (await door.keys.get(KEY_ID)).last_used_at is None
