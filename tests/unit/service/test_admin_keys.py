"""Admin keys: the first one, those that are made and withdrawn, and who is let in with them."""

from datetime import timedelta

import pytest

from gateway.domain.errors import InvalidKey, InvalidValue, MissingKey, NotAllowed
from gateway.domain.keys import PREFIX, id_of
from gateway.service.admin_keys import AdministerAdminKeys, AuthenticateAdmin
from gateway.service.administer import KeyForge
from tests.builders import a_secret
from tests.fakes_administration import PEPPER, Clock, FakeAdminKeys, Office
from tests.studio import Door

pytestmark = pytest.mark.anyio

GIVEN = "sk-admin-chosen-by-the-operator"
NEW_PEPPER = b"a newer pepper"


class Desk:
    """The use cases of admin keys on a fake store."""

    def __init__(self, store=None, peppers=(PEPPER,)):
        self.store, self.clock = store or FakeAdminKeys(), Clock()
        office = Office()
        self.log = office.log
        self.keys = AdministerAdminKeys(
            self.store, KeyForge(peppers[0], office.draw), peppers, self.clock, office.audit
        )
        self.authenticate = AuthenticateAdmin(self.store, peppers, self.clock)


async def test_the_first_start_makes_a_key_that_opens_and_no_other_start_does():
    desk = Desk()
    secret = await desk.keys.ensure_first("")
    assert (await desk.authenticate(secret)).name == "first"
    assert await desk.keys.ensure_first("") is None
    [key] = await desk.keys.list()
    await desk.keys.revoke(key.id)
    assert await desk.keys.ensure_first("") is None


async def test_a_key_of_ours_has_the_form_and_checksum_of_all_our_keys():
    _, secret = await Desk().keys.create("ci")
    assert secret.startswith("sk-admin-")
    assert id_of(secret.replace("sk-admin-", PREFIX)) is None  # the checksum is over the prefix as well
    assert len(secret) == len("sk-admin-") + 12 + 32 + 6


async def test_the_operators_own_key_opens_and_none_is_made():
    desk = Desk()
    assert await desk.keys.ensure_first(GIVEN) is None
    assert await desk.keys.ensure_first(GIVEN) is None
    [key] = await desk.keys.list()
    assert (await desk.authenticate(GIVEN)).id == key.id
    assert key.redacted == f"sk-admin-...{GIVEN[-4:]}"
    assert await desk.keys.ensure_first("") is None


async def test_the_operators_own_key_stays_revoked():
    desk = Desk()
    await desk.keys.ensure_first(GIVEN)
    [key] = await desk.keys.list()
    await desk.keys.revoke(key.id)
    await desk.keys.ensure_first(GIVEN)
    with pytest.raises(InvalidKey, match="revoked"):
        await desk.authenticate(GIVEN)


async def test_keys_outlive_the_installations_secret():
    desk = Desk()
    _, secret = await desk.keys.create("ci")
    await desk.keys.ensure_first(GIVEN)
    rotated = Desk(desk.store, (NEW_PEPPER, PEPPER))
    await rotated.authenticate(secret)
    await rotated.keys.ensure_first(GIVEN)
    assert len(await rotated.keys.list()) == 2
    alone = Desk(desk.store, (NEW_PEPPER,))
    await alone.authenticate(secret)
    await alone.keys.ensure_first(GIVEN)
    assert len(await alone.keys.list()) == 2


async def test_the_operators_own_key_stays_revoked_when_the_secret_is_replaced():
    desk = Desk()
    await desk.keys.ensure_first(GIVEN)
    [key] = await desk.keys.list()
    await desk.keys.revoke(key.id)
    await Desk(desk.store, (NEW_PEPPER, PEPPER)).keys.ensure_first(GIVEN)
    alone = Desk(desk.store, (NEW_PEPPER,))
    await alone.keys.ensure_first(GIVEN)
    with pytest.raises(InvalidKey, match="revoked"):
        await alone.authenticate(GIVEN)


@pytest.mark.parametrize("secret", [None, ""])
async def test_no_key(secret):
    with pytest.raises(MissingKey, match="sk-admin-"):
        await Desk().authenticate(secret)


@pytest.mark.parametrize(
    "secret", ["x", "sk-admin-", "sk-admin-0123456789abcde", "sk-admin-" + "\u00e9" * 32, "sk-proj-1"]
)
async def test_what_cannot_be_an_admin_key_makes_no_look_up(secret):
    desk = Desk()
    with pytest.raises(InvalidKey) as failure:
        await desk.authenticate(secret)
    assert secret not in failure.value.message
    assert desk.store.lookups == 0


async def test_an_unknown_key_is_refused_and_not_repeated():
    desk = Desk()
    await desk.keys.ensure_first(GIVEN)
    with pytest.raises(InvalidKey) as failure:
        await desk.authenticate(GIVEN + "x")
    assert "operator" not in failure.value.message


async def test_a_projects_key_does_not_administer():
    desk = Desk()
    with pytest.raises(NotAllowed, match="admin key"):
        await desk.authenticate(a_secret())
    assert desk.store.lookups == 0


async def test_an_admin_key_makes_no_pictures():
    door = Door()
    with pytest.raises(NotAllowed, match="sk-glm-"):
        await door.authenticate(GIVEN)
    assert door.keys.lookups == []


async def test_a_key_opens_until_it_expires_or_is_revoked():
    desk = Desk()
    _, short = await desk.keys.create("short", timedelta(hours=1))
    key, secret = await desk.keys.create("ci")
    await desk.authenticate(short)
    desk.clock.seconds = 3600
    with pytest.raises(InvalidKey, match="expired"):
        await desk.authenticate(short)
    await desk.authenticate(secret)
    await desk.keys.revoke(key.id)
    with pytest.raises(InvalidKey, match="revoked"):
        await desk.authenticate(secret)


async def test_the_last_use_is_noted_at_most_once_a_minute():
    desk = Desk()
    key, secret = await desk.keys.create("ci")
    noted = []
    for second in (0, 59, 60):
        desk.clock.seconds = second
        await desk.authenticate(secret)
        noted.append((await desk.keys.find(key.id)).last_used_at - key.created_at)
    assert noted == [timedelta(0), timedelta(0), timedelta(seconds=60)]


async def test_a_database_that_takes_no_writes_is_read_and_not_waited_for_at_each_request():
    """A full or failed-over one, or SQLite while old lines are archived: who administers wants to see what is there."""
    desk = Desk()
    key, secret = await desk.keys.create("ci")
    desk.store.read_only = True
    for second in (0, 1, 59, 60):
        desk.clock.seconds = second
        assert (await desk.authenticate(secret)).id == key.id
    assert desk.store.touches == 2


async def test_what_is_not_there_cannot_be_revoked_or_found():
    desk = Desk()
    for ask in (desk.keys.revoke, desk.keys.find):
        with pytest.raises(InvalidValue, match="admin-keys list"):
            await ask("nobody")


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\nb"])
async def test_a_name_is_printable_and_short(name):
    with pytest.raises(InvalidValue):
        await Desk().keys.create(name)
