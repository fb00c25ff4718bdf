"""Projects and keys as the operator handles them, on fakes."""

from datetime import timedelta

import pytest

from gateway.domain.errors import InvalidRequest, InvalidValue, NameTaken
from gateway.domain.keys import digest, id_of
from gateway.domain.quota import Limits
from tests.fakes_administration import NOW, PEPPER, Office, a_project

pytestmark = pytest.mark.anyio


@pytest.fixture
def office():
    return Office(a_project())


class TestProjects:
    async def test_a_project_is_made_with_its_terms(self, office):
        project = await office.projects.create("a team", {"images_per_day": 5, "models": ("glm-image",)})
        assert project.id.startswith("proj_")
        assert (project.name, project.limits, project.models) == ("a team", Limits(images_per_day=5), ("glm-image",))
        assert await office.projects.find(project.id) == await office.projects.find("a team") == project

    @pytest.mark.parametrize("name", ["", " ", "x" * 101, "proj_x", "design", "default"])
    async def test_a_name_that_cannot_be_had(self, office, name):
        with pytest.raises(InvalidRequest):
            await office.projects.create(name, {})
        assert len(await office.projects.list()) == 2

    async def test_a_change_is_announced_and_leaves_the_rest(self, office):
        await office.projects.change("design", {"images_per_day": 5})
        project = await office.projects.change("proj_design", {"concurrent": 1})
        assert project.limits == Limits(images_per_day=5, concurrent=1)
        assert office.announcer.told == ["proj_design"] * 2

    async def test_no_change_is_no_news(self, office):
        assert await office.projects.change("design", {}) == a_project()
        assert office.announcer.told == []

    async def test_archive(self, office):
        _, secret = await office.keys.create("k", project="design")
        assert (await office.projects.archive("design")).archived_at == NOW
        assert office.announcer.told == [id_of(secret), "proj_design"]
        with pytest.raises(InvalidValue, match="archived"):
            await office.keys.create("another", project="design")

    async def test_unarchive(self, office):
        await office.projects.archive("design")
        assert await office.projects.unarchive("design") == a_project()
        assert office.announcer.told == ["proj_design"] * 2

    async def test_a_new_name(self, office):
        assert (await office.projects.rename("design", "web")).name == "web"
        assert office.announcer.told == ["proj_design"]

    @pytest.mark.parametrize("name", ["", " ", "x" * 101, "proj_x", "default"])
    async def test_a_new_name_that_cannot_be_had(self, office, name):
        with pytest.raises(InvalidRequest):
            await office.projects.rename("design", name)
        assert await office.projects.find("design") == a_project()

    async def test_the_default_project_keeps_its_name(self, office):
        with pytest.raises(InvalidValue, match="cannot be renamed"):
            await office.projects.rename("default", "other")

    async def test_the_default_project_stays(self, office):
        with pytest.raises(InvalidValue, match="cannot be archived"):
            await office.projects.archive("default")

    @pytest.mark.parametrize("verb", ["find", "archive", "unarchive"])
    async def test_an_unknown_project(self, office, verb):
        with pytest.raises(InvalidValue, match="no project 'nobody'") as failure:
            await getattr(office.projects, verb)("nobody")
        assert failure.value.param == "project"

    async def test_changing_an_unknown_project(self, office):
        with pytest.raises(InvalidValue, match="no project"):
            await office.projects.change("nobody", {"concurrent": 1})


class TestKeys:
    async def test_a_key_is_made_with_its_terms(self, office):
        terms = {"images_per_day": 5, "shadow": True, "ips": (), "expires_in": timedelta(days=30)}
        key, secret = await office.keys.create("n8n", project="design", terms=terms)
        assert id_of(secret) == key.id
        assert key.digest == digest(PEPPER, secret)
        assert key.redacted == f"{secret[:11]}...{secret[-4:]}"
        assert key.limits == Limits(images_per_day=5, shadow=True)
        assert key.expires_at == NOW + timedelta(days=30)
        assert key.project == a_project()
        assert await office.keys.find(key.id) == key
        assert office.announcer.told == [key.id]

    async def test_without_a_project_it_is_the_default_ones(self, office):
        key, _ = await office.keys.create("n8n")
        assert key.project.name == "default"
        assert await office.keys.list("default") == await office.keys.list() == [key]
        assert await office.keys.list("design") == []

    @pytest.mark.parametrize(
        ("name", "project"), [("", "design"), ("x" * 101, "design"), ("taken", "design"), ("fine", "nobody")]
    )
    async def test_what_cannot_be_made_is_not_made(self, office, name, project):
        await office.keys.create("taken", project="design")
        with pytest.raises(InvalidRequest):
            await office.keys.create(name, project=project)
        assert len(await office.keys.list()) == 1

    async def test_a_further_key_of_an_account_may_do_what_the_first_may(self, office):
        terms = {"images_per_day": 5, "shadow": True, "models": ("glm-image",), "cache_scope": "key"}
        first, _ = await office.keys.create("x" * 100, project="design", terms=terms)
        further, secret = await office.keys.add_to_account(first, None, timedelta(hours=1))
        assert (further.account_id, further.project, further.limits) == (first.id, first.project, first.limits)
        assert (further.models, further.cache_scope) == (first.models, first.cache_scope)
        assert further.expires_at == NOW + timedelta(hours=1)
        assert (id_of(secret), first.account_id) == (further.id, first.id)
        assert further.name.startswith("x" * 95 + " ")
        assert len(further.name) == 100
        another, _ = await office.keys.add_to_account(first, None, None)
        assert another.name != further.name
        assert another.id in office.announcer.told

    async def test_a_revoked_keys_name_is_free_again(self, office):
        key, _ = await office.keys.create("n8n")
        with pytest.raises(NameTaken):
            await office.keys.create("n8n")
        await office.keys.revoke(key.id)
        await office.keys.create("n8n")
        assert [key.state(NOW) for key in await office.keys.list()].count("revoked") == 1

    async def test_a_change_is_announced_and_leaves_the_rest(self, office):
        key, _ = await office.keys.create("n8n", terms={"images_per_day": 5, "expires_in": timedelta(days=1)})
        changed = await office.keys.change(key.id, {"concurrent": 1, "expires_in": None})
        assert changed.limits == Limits(images_per_day=5, concurrent=1)
        assert changed.expires_at is None
        assert office.announcer.told == [key.id] * 2
        assert await office.keys.change(key.id, {}) == changed
        assert office.announcer.told == [key.id] * 2

    async def test_rotation_keeps_the_old_secret_for_a_while(self, office):
        key, old = await office.keys.create("n8n")
        rotated, new = await office.keys.rotate(key.id, timedelta(hours=24))
        assert rotated.digests(NOW + timedelta(hours=23)) == (digest(PEPPER, new), digest(PEPPER, old))
        assert rotated.digests(NOW + timedelta(hours=24)) == (digest(PEPPER, new),)
        assert (rotated.id, rotated.last_four) == (key.id, new[-4:])
        assert office.announcer.told == [key.id] * 2

    async def test_rotation_can_end_the_old_secret_at_once(self, office):
        key, _ = await office.keys.create("n8n")
        await office.keys.rotate(key.id, timedelta(hours=24))
        rotated, new = await office.keys.rotate(key.id, timedelta(0))
        assert rotated.digests(NOW) == (digest(PEPPER, new),)

    async def test_a_revoked_key_gets_no_new_secret(self, office):
        key, _ = await office.keys.create("n8n")
        await office.keys.revoke(key.id)
        with pytest.raises(InvalidValue, match="revoked"):
            await office.keys.rotate(key.id, timedelta(0))
        assert office.announcer.told == [key.id] * 2

    async def test_revoking_is_announced(self, office):
        key, _ = await office.keys.create("n8n")
        office.clock.seconds = 5
        await office.keys.revoke(key.id)
        assert (await office.keys.find(key.id)).revoked_at == NOW + timedelta(seconds=5)
        assert office.announcer.told == [key.id] * 2

    async def test_a_key_is_disabled_and_enabled_again(self, office):
        key, _ = await office.keys.create("n8n")
        office.clock.seconds = 5
        assert (await office.keys.disable(key.id)).disabled_at == NOW + timedelta(seconds=5)
        office.clock.seconds = 6
        assert (await office.keys.disable(key.id)).disabled_at == NOW + timedelta(seconds=5)
        assert await office.keys.enable(key.id) == key
        assert office.announcer.told == [key.id] * 4

    @pytest.mark.parametrize("verb", ["disable", "enable"])
    async def test_a_revoked_key_stays_revoked(self, office, verb):
        key, _ = await office.keys.create("n8n")
        await office.keys.revoke(key.id)
        with pytest.raises(InvalidValue, match="revoked"):
            await getattr(office.keys, verb)(key.id)
        assert office.announcer.told == [key.id] * 2

    async def test_a_new_name(self, office):
        key, _ = await office.keys.create("n8n")
        await office.keys.create("taken")
        assert (await office.keys.rename(key.id, "web")).name == "web"
        assert office.announcer.told[-1] == key.id
        for name in ("", "taken"):
            with pytest.raises(InvalidRequest):
                await office.keys.rename(key.id, name)
        assert (await office.keys.find(key.id)).name == "web"

    @pytest.mark.parametrize(
        "act",
        [
            lambda keys: keys.find("nobody"),
            lambda keys: keys.revoke("nobody"),
            lambda keys: keys.rotate("nobody", timedelta(0)),
            lambda keys: keys.change("nobody", {"concurrent": 1}),
            lambda keys: keys.disable("nobody"),
            lambda keys: keys.enable("nobody"),
            lambda keys: keys.rename("nobody", "x"),
        ],
        ids=["find", "revoke", "rotate", "change", "disable", "enable", "rename"],
    )
    async def test_an_unknown_key(self, office, act):
        with pytest.raises(InvalidValue, match="no key 'nobody'"):
            await act(office.keys)
        assert office.announcer.told == []
