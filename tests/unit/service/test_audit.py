"""Each change of the operator's leaves one line in the audit log, and what changes nothing leaves none."""

import json
from datetime import timedelta

import pytest

from gateway.domain.audit import AuditEvent, AuditQuestion
from gateway.domain.errors import InvalidRequest, InvalidValue
from gateway.domain.keys import digest
from gateway.service.administer_jobs import AdministerJobs
from tests.fakes_administration import NOW, OPERATOR, PEPPER, Office, a_project

pytestmark = pytest.mark.anyio


@pytest.fixture
def office():
    return Office(a_project())


def lines(office):
    return [(entry.event.type, dict(entry.event.before), dict(entry.event.after)) for entry in office.log.entries]


async def test_a_line_says_who_when_and_whose(office):
    key, _ = await office.keys.create("n8n", project="design")
    [entry] = office.log.entries
    assert (entry.time, entry.actor) == (NOW, OPERATOR)
    event = entry.event
    assert (event.resource_id, event.project_id, event.project_name) == (key.id, "proj_design", "design")


async def test_a_projects_life(office):
    project = await office.projects.create("web", {"images_per_day": 5, "models": ("glm-image",)})
    await office.projects.change("web", {"images_per_day": None, "spend_per_month": 12_500_000})
    await office.projects.change("web", {"weight": 3, "shadow": True})
    await office.projects.rename("web", "shop")
    await office.projects.archive("shop")
    await office.projects.unarchive("shop")
    assert {entry.event.project_id for entry in office.log.entries} == {project.id}
    assert lines(office) == [
        (
            "project.created",
            {},
            {"name": "web", "images_per_day": 5, "models": ["glm-image"], "weight": 1, "markup": "1"},
        ),
        (
            "rate_limit.updated",
            {"images_per_day": 5, "spend_per_month": None},
            {"images_per_day": None, "spend_per_month": "12.50"},
        ),
        ("project.updated", {"shadow": False, "weight": 1}, {"shadow": True, "weight": 3}),
        ("project.updated", {"name": "web"}, {"name": "shop"}),
        ("project.archived", {"archived_at": None}, {"archived_at": "2026-11-23T12:00:00Z"}),
        ("project.updated", {"archived_at": "2026-11-23T12:00:00Z"}, {"archived_at": None}),
    ]


async def test_a_keys_life(office):
    key, old = await office.keys.create("n8n", terms={"expires_in": timedelta(days=1), "metadata": {"a": "b"}})
    await office.keys.change(key.id, {"concurrent": 0})
    await office.keys.disable(key.id)
    await office.keys.enable(key.id)
    _, new = await office.keys.rotate(key.id, timedelta(0))
    await office.keys.revoke(key.id)
    made = {"name": "n8n", "prefix": key.prefix, "last_four": old[-4:], "expires_at": "2026-11-24T12:00:00Z"}
    at = "2026-11-23T12:00:00Z"
    assert lines(office) == [
        ("api_key.created", {}, {**made, "metadata": {"a": "b"}}),
        ("api_key.updated", {"concurrent": None}, {"concurrent": 0}),
        ("api_key.updated", {"disabled_at": None}, {"disabled_at": at}),
        ("api_key.updated", {"disabled_at": at}, {"disabled_at": None}),
        ("api_key.updated", {"last_four": old[-4:]}, {"last_four": new[-4:], "secret": "rotated"}),
        ("api_key.deleted", {"revoked_at": None}, {"revoked_at": at}),
    ]


async def test_a_service_account_is_called_one(office):
    accounts = office.keys.as_accounts()
    key, _ = await accounts.create("n8n", project="design")
    await accounts.rename(key.id, "n9n")
    await accounts.end_account(key)
    assert [kind for kind, _, _ in lines(office)] == [
        f"service_account.{verb}" for verb in ("created", "updated", "deleted")
    ]


@pytest.mark.parametrize("revoked_first", [False, True])
async def test_the_end_of_an_account_with_several_keys_is_one_line_of_it_and_one_of_each_further_key(
    office, revoked_first
):
    """Also when the key that it began with, whose id it has, is revoked already."""
    first, _ = await office.keys.as_accounts().create("n8n", project="design")
    further = [(await office.keys.add_to_account(first, None, None))[0] for _ in range(2)]
    if revoked_first:
        await office.keys.revoke(first.id)
    open_ids = [key.id for key in ([] if revoked_first else [first]) + further]
    begun = len(office.log.entries)
    await office.keys.as_accounts().end_account(first)
    said = [(one.event.type, one.event.resource_id) for one in office.log.entries[begun:]]
    assert said == [*(("api_key.deleted", key.id) for key in further), ("service_account.deleted", first.id)]
    last = office.log.entries[-1].event
    assert (last.before, last.after) == ({"keys": open_ids}, {"keys": []})
    assert all(key.revoked_at for key in await office.keys.list())


async def test_an_admin_keys_life(office):
    key, secret = await office.admin_keys.create("ci")
    await office.admin_keys.revoke(key.id)
    made = {"name": "ci", "prefix": key.prefix, "last_four": secret[-4:], "owner": "organization"}
    assert lines(office) == [
        ("api_key.created", {}, made),
        ("api_key.deleted", {"revoked_at": None}, {"revoked_at": "2026-11-23T12:00:00Z"}),
    ]
    assert {entry.event.project_id for entry in office.log.entries} == {""}


@pytest.mark.parametrize("given", ["", "sk-admin-chosen-by-the-operator"])
async def test_the_first_admin_key_leaves_a_line_once(office, given):
    for _ in range(2):
        await office.admin_keys.ensure_first(given)
    assert [kind for kind, _, _ in lines(office)] == ["api_key.created"]


async def test_no_secret_and_no_digest_is_in_a_line(office):
    key, old = await office.keys.create("n8n")
    _, new = await office.keys.rotate(key.id, timedelta(hours=1))
    _, admin = await office.admin_keys.create("ci")
    said = json.dumps(lines(office))
    for secret in (old, new, admin):
        assert secret not in said
        assert secret[-12:] not in said
        assert digest(PEPPER, secret).hex()[:16] not in said


async def test_what_changes_nothing_leaves_no_line(office):
    key, _ = await office.keys.create("n8n", terms={"images_per_day": 5})
    await office.keys.disable(key.id)
    await office.keys.revoke(key.id)
    await office.projects.archive("design")
    admin_key, _ = await office.admin_keys.create("ci")
    await office.admin_keys.revoke(admin_key.id)
    before = len(lines(office))
    office.clock.seconds = 60
    await office.keys.change(key.id, {})
    await office.keys.change(key.id, {"images_per_day": 5})
    await office.keys.revoke(key.id)
    await office.projects.archive("design")
    await office.projects.rename("design", "design")
    await office.admin_keys.revoke(admin_key.id)
    assert len(lines(office)) == before


REFUSED = {
    "a name that is taken": lambda office: office.projects.create("default", {}),
    "a new name that is taken": lambda office: office.projects.rename("design", "default"),
    "the default project": lambda office: office.projects.archive("default"),
    "no project": lambda office: office.projects.change("nobody", {"weight": 2}),
    "a key without a name": lambda office: office.keys.create("", project="design"),
    "a key of no project": lambda office: office.keys.create("n8n", project="nobody"),
    "no key": lambda office: office.keys.revoke("nobody"),
    "no key to rotate": lambda office: office.keys.rotate("nobody", timedelta(0)),
    "an admin key without a name": lambda office: office.admin_keys.create(""),
    "no admin key": lambda office: office.admin_keys.revoke("nobody"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused_leaves_no_line(office, case):
    with pytest.raises(InvalidRequest):
        await REFUSED[case](office)
    assert lines(office) == []


class Board:
    """A view of jobs with one that runs, and the plans that are remembered."""

    def __init__(self, plans):
        self.plans = plans

    async def jobs(self):
        return []

    async def cancel(self, job_id):
        return job_id == "runs"

    async def purge(self, project_id=None):
        assert project_id in (None, "proj_design")
        plans, self.plans = self.plans, 0
        return plans


async def test_what_is_forgotten_leaves_a_line_and_nothing_leaves_none(office):
    jobs = AdministerJobs(Board(3), office.projects, office.audit)
    assert [await jobs.purge("design"), await jobs.purge("design"), await jobs.purge(None)] == [3, 0, 0]
    assert lines(office) == [("cache.purged", {"prompts": 3}, {"prompts": 0})]
    assert office.log.entries[0].event.resource_id == "proj_design"


async def test_a_job_that_is_dropped_leaves_a_line(office):
    jobs = AdministerJobs(Board(0), office.projects, office.audit)
    await jobs.cancel("runs")
    with pytest.raises(InvalidValue):
        await jobs.cancel("ran")
    assert [entry.event.resource_id for entry in office.log.entries] == ["runs"]


async def test_all_lines_of_a_time_come_the_oldest_first(office):
    for number in range(250):
        office.clock.seconds = number
        await office.audit.note(AuditEvent(type="x", resource_id=str(number), after={"n": number}))
    office.clock.seconds = 300
    found = await office.audit.since("4m")
    assert [entry.event.resource_id for entry in found] == [str(number) for number in range(60, 250)]
    assert len(await office.audit.since("2026-11-23")) == 250
    assert len((await office.audit.page(AuditQuestion(limit=20))).items) == 20
    with pytest.raises(InvalidValue):
        await office.audit.since("yesterday")
