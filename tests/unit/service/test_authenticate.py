"""Who is calling: a key is remembered for a second, and a mistyped one is not even looked for."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.domain.errors import InvalidKey, MissingKey
from gateway.service.authenticate import MEMORY_ENTRIES, Authenticate
from tests.builders import NOW, PEPPER, a_secret, a_stored_key
from tests.fakes import FakeClock, FakeKeys

pytestmark = pytest.mark.anyio

SECRET = a_secret()


class Door:
    """The use case on fakes, knowing one key."""

    def __init__(self, *keys, peppers=(PEPPER,), step=0.0):
        self.keys = FakeKeys(*(keys or [a_stored_key(SECRET)]))
        self.clock = FakeClock(step)
        self.authenticate = Authenticate(self.keys, peppers, self.clock)

    async def lets_in(self, secret=SECRET):
        try:
            await self.authenticate(secret)
        except InvalidKey:
            return False
        return True


async def test_a_key_opens_in_its_own_name():
    caller = await Door().authenticate(SECRET)
    assert (caller.key_id, caller.name) == (SECRET[7:19], "tests")


@pytest.mark.parametrize("secret", [None, ""])
async def test_no_key(secret):
    door = Door()
    with pytest.raises(MissingKey, match="sk-glm-"):
        await door.authenticate(secret)
    assert door.keys.lookups == []


@pytest.mark.parametrize(
    "secret",
    [
        "x",
        "sk-proj-0123456789",
        SECRET[:-1],
        SECRET + "x",
        SECRET.swapcase(),
        SECRET[:20] + "Z" + SECRET[21:],
        "\u00e9",
    ],
)
async def test_a_mistyped_key_makes_no_look_up(secret):
    door = Door()
    assert not await door.lets_in(secret)
    assert door.keys.lookups == []


async def test_an_unknown_key_is_looked_up_once_in_a_second():
    door, unknown = Door(), a_secret("999999999999")
    assert [await door.lets_in(unknown) for _ in range(3)] == [False] * 3
    assert door.keys.lookups == ["999999999999"]


async def test_another_keys_secret_with_a_known_id_does_not_open():
    assert not await Door().lets_in(a_secret(random="s" * 32))


@pytest.mark.parametrize(
    "changes",
    [{"revoked_at": NOW}, {"expires_at": NOW}, {"expires_at": NOW - timedelta(days=1)}, {"digest": b"x" * 32}],
)
async def test_a_key_that_is_not_usable(changes):
    assert not await Door(a_stored_key(SECRET, **changes)).lets_in()


async def test_a_remembered_key_still_expires_on_time():
    door = Door(a_stored_key(SECRET, expires_at=NOW + timedelta(seconds=0.5)))
    assert await door.lets_in()
    door.clock.seconds = 0.5
    assert not await door.lets_in()
    assert len(door.keys.lookups) == 1


async def test_within_a_second_a_key_is_looked_up_once():
    door = Door()
    assert all([await door.lets_in() for _ in range(5)])
    door.clock.seconds = 0.99
    assert await door.lets_in()
    assert len(door.keys.lookups) == 1


@pytest.mark.parametrize("usable", [True, False])
async def test_after_a_second_a_change_is_felt(usable):
    key = a_stored_key(SECRET)
    revoked = replace(key, revoked_at=NOW)
    door = Door(revoked if usable else key)
    assert await door.lets_in() is not usable
    door.keys.keys[key.id] = key if usable else revoked
    door.clock.seconds = 1.0
    assert await door.lets_in() is usable


async def test_a_slow_look_up_does_not_make_the_memory_longer():
    """The answer is as old as the question: the key is revoked while it is under way, and refused a second later."""
    key = a_stored_key(SECRET)
    door = Door(key)
    get = door.keys.get

    async def slowly_get(key_id):
        found = await get(key_id)
        await door.keys.revoke(key_id, door.clock.now())
        door.clock.seconds += 0.5
        return found

    door.keys.get = slowly_get
    assert await door.lets_in()
    door.clock.seconds = 1.0
    assert not await door.lets_in()


async def test_a_key_may_be_made_after_it_was_asked_for():
    door = Door(a_stored_key(a_secret("000000000000")))
    assert not await door.lets_in()
    await door.keys.add(a_stored_key(SECRET))
    door.clock.seconds = 1.0
    assert await door.lets_in()


@pytest.mark.parametrize("step", [0.1, 0.2, 0.3, 0.4, 0.7, 0.9])
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


async def test_every_secret_of_the_installation_verifies_while_one_replaces_another():
    assert await Door(peppers=(b"the new one", PEPPER)).lets_in()
    assert not await Door(peppers=(b"the new one",)).lets_in()


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        (SECRET[:-1], f"sk-glm-***{SECRET[-5:-1]}"),
        (a_secret("999999999999"), f"sk-glm-***{a_secret('999999999999')[-4:]}"),
        ("s" * 21, "sssssss***ssss"),
        ("s" * 20, "***"),
        ("\u00e9" * 30, "***"),
    ],
)
async def test_the_refusal_shows_the_ends_of_the_key_only(secret, shown):
    with pytest.raises(InvalidKey) as failure:
        await Door().authenticate(secret)
    assert failure.value.message.startswith(f"Incorrect API key provided: {shown}. Use a key made with")


async def test_many_requests_at_once_are_all_answered():
    door = Door()
    assert all(await asyncio.gather(*(door.lets_in() for _ in range(100))))
