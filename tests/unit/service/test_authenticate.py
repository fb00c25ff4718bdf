"""Who is calling: what a key has to be to open, and what is said of one that does not."""

import re
from datetime import timedelta

import pytest

from gateway.domain.addresses import parse_address, parse_networks
from gateway.domain.errors import AddressNotAllowed, InvalidKey, MissingKey
from tests.builders import NOW, PEPPER, a_project, a_secret, a_stored_key
from tests.studio import SECRET, Door

pytestmark = pytest.mark.anyio


async def test_a_key_opens_in_its_own_name():
    caller = await Door().authenticate(SECRET)
    assert (caller.key_id, caller.key_name, caller.project_name) == (SECRET[7:19], "tests", "default")


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


async def test_another_keys_secret_with_a_known_id_does_not_open():
    assert not await Door().lets_in(a_secret(random="s" * 32))


@pytest.mark.parametrize(
    "changes",
    [
        {"revoked_at": NOW},
        {"disabled_at": NOW},
        {"expires_at": NOW},
        {"expires_at": NOW - timedelta(days=1)},
        {"digest": b"x" * 32},
        {"project": a_project(archived_at=NOW)},
    ],
)
async def test_a_key_that_is_not_usable(changes):
    assert not await Door(a_stored_key(SECRET, **changes)).lets_in()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"revoked_at": NOW}, "has been revoked"),
        ({"disabled_at": NOW}, "is disabled"),
        ({"expires_at": NOW}, "has expired"),
        ({"project": a_project(archived_at=NOW)}, "The project of the API key .* is archived"),
    ],
)
async def test_who_has_the_secret_is_told_why_it_does_not_open(changes, says):
    key = a_stored_key(SECRET, **changes)
    with pytest.raises(InvalidKey, match=says) as failure:
        await Door(key).authenticate(SECRET)
    assert key.redacted in failure.value.message
    assert SECRET not in failure.value.message


@pytest.mark.parametrize("changes", [{"revoked_at": NOW}, {"expires_at": NOW}, {"project": a_project(archived_at=NOW)}])
async def test_who_has_only_the_id_is_told_nothing_of_the_key(changes):
    with pytest.raises(InvalidKey, match="Incorrect API key provided"):
        await Door(a_stored_key(SECRET, **changes)).authenticate(a_secret(random="s" * 32))


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


@pytest.mark.parametrize(
    ("ips", "address", "allowed"),
    [
        ([], "203.0.113.9", True),
        ([], None, True),
        (["10.0.0.0/8", "2001:db8::/32"], "10.1.2.3", True),
        (["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], "2001:db8::1", False),
        (["10.0.0.0/8"], None, False),
    ],
)
async def test_a_key_opens_from_its_addresses_only(ips, address, allowed):
    door = Door(a_stored_key(SECRET, ips=parse_networks(ips)))
    address = parse_address(address) if address else None
    if allowed:
        assert await door.lets_in(address=address)
        return
    with pytest.raises(AddressNotAllowed, match=re.escape(str(address or "(unknown)"))):
        await door.authenticate(SECRET, address)
    assert not await door.lets_in(a_secret(random="s" * 32), address)  # a stranger learns nothing of the addresses


async def test_both_secrets_open_while_one_is_rotated_out():
    new = a_secret(random="n" * 32)
    old = {"previous_digest": a_stored_key(SECRET).digest, "previous_until": NOW + timedelta(seconds=10)}
    door = Door(a_stored_key(new, **old))
    assert (await door.lets_in(new), await door.lets_in(SECRET)) == (True, True)
    assert not await door.lets_in(a_secret(random="s" * 32))
    door.clock.seconds = 10.0
    assert (await door.lets_in(new), await door.lets_in(SECRET)) == (True, False)
    assert len(door.keys.lookups) == 1
