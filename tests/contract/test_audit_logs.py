"""The audit log, read with the stock SDK's admin client page by page, on SQLite and PostgreSQL."""

import getpass
import json
import time
from contextlib import ExitStack, contextmanager

import openai
import pytest
from openai import OpenAI

from tests import postgres_servers, servers
from tests.redis_servers import redis_alone
from tests.servers import ADMIN_KEY, glm_gateway, http

AUDIT_LOGS = "/v1/organization/audit_logs"
CLIENT = "2001:db8::7"


@contextmanager
def opened(gateway, key=ADMIN_KEY):
    http_client = openai.DefaultHttpxClient(trust_env=False, headers={"X-Forwarded-For": CLIENT})
    with OpenAI(base_url=gateway.base_url, admin_api_key=key, max_retries=0, http_client=http_client) as client:
        yield client.admin.organization


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request, tmp_path_factory, shared_simulator):
    """A gateway behind a proxy on this machine."""
    folder = tmp_path_factory.mktemp("audit")
    with ExitStack() as stack:
        env = {"GLM_GATEWAY_SERVER__TRUSTED_PROXIES": "127.0.0.1", "GLM_GATEWAY_CACHE__SCOPE": "project"}
        if request.param == "postgresql":
            redis, _ = stack.enter_context(redis_alone(folder / "redis"))
            database = stack.enter_context(postgres_servers.postgres_server(folder))
            env |= {"DATABASE_URL": database, "REDIS_URL": redis, "GLM_GATEWAY_SECRET_KEY": "a" * 64}
        yield stack.enter_context(servers.gateway(folder, shared_simulator, **env))


@pytest.fixture
def organization(place):
    with opened(place) as client:
        yield client


def types(page):
    return [line.type for line in page]


def run(place, *words):
    done = glm_gateway(*words, env=place.env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_change_over_the_api_is_a_line_of_the_admin_key_that_made_it(place, organization):
    me = next(iter(organization.admin_api_keys.list()))
    before = int(time.time())
    project = organization.projects.create(name="design")
    account = organization.projects.service_accounts.create(project.id, name="n8n")
    organization.projects.service_accounts.update(account.id, project_id=project.id, name="n9n")
    organization.projects.service_accounts.delete(account.id, project_id=project.id)
    other = organization.projects.service_accounts.create(project.id, name="n8n")
    organization.projects.api_keys.delete(other.id, project_id=project.id)
    organization.projects.update(project.id, name="web")
    organization.projects.archive(project.id)
    lines = organization.audit_logs.list(project_ids=[project.id]).data
    assert types(lines) == [
        *("project.archived", "project.updated", "api_key.deleted", "service_account.created"),
        *("service_account.deleted", "service_account.updated", "service_account.created", "project.created"),
    ]
    for line in lines:
        assert (line.actor.type, line.actor.api_key.id, line.project.id) == ("api_key", me.id, project.id)
        assert before <= line.effective_at <= time.time()
        assert line.ip_address == CLIENT
        assert line.user_agent.startswith("OpenAI/Python")
        assert line.request_id.startswith("req_")
    made, renamed = lines[-1], lines[1]
    assert (made.project_created.id, made.project_created.data.title) == (project.id, "design")
    assert renamed.project_updated.changes_requested.title == "web"
    assert (renamed.before, renamed.after) == ({"name": "design"}, {"name": "web"})
    assert renamed.project.name == "web"
    assert lines[4].service_account_deleted.id == account.id
    assert lines[2].api_key_deleted.id == other.id
    text = json.dumps([line.to_dict() for line in lines])
    assert account.api_key.value not in text
    assert ADMIN_KEY not in text


def test_admin_keys_leave_lines_too(place, organization):
    made = organization.admin_api_keys.create(name="ci")
    with opened(place, made.value) as other:
        project = other.projects.create(name="of another")
    organization.admin_api_keys.delete(made.id)
    lines = organization.audit_logs.list(resource_ids=[made.id]).data
    assert types(lines) == ["api_key.deleted", "api_key.created"]
    assert [line.project for line in lines] == [None, None]
    assert made.value not in lines[1].to_json()
    [line] = organization.audit_logs.list(actor_ids=[made.id])
    assert (line.actor.api_key.id, line.project_created.id) == (made.id, project.id)


def test_the_commands_leave_lines_of_the_systems_user(place, organization):
    key = json.loads(run(place, "keys", "create", "--name", "by command", "--json"))
    run(place, "keys", "limits", key["id"], "--images-per-day", "5")
    run(place, "projects", "limits", "default", "--requests-per-minute", "1000")
    run(place, "projects", "limits", "default", "--requests-per-minute", "none")
    run(place, "keys", "revoke", key["id"])
    limits, *lines = organization.audit_logs.list(limit=5, resource_ids=[key["id"], "proj_default"]).data[1:]
    assert types(lines) == ["rate_limit.updated", "api_key.updated", "api_key.created"]
    assert limits.rate_limit_updated.changes_requested.to_dict() == {"max_requests_per_1_minute": None}
    assert lines[0].rate_limit_updated.changes_requested.max_requests_per_1_minute == 1000
    assert (lines[1].before, lines[1].after) == ({"images_per_day": None}, {"images_per_day": 5})
    assert {line.actor.session.user.id for line in lines} == {f"cli:{getpass.getuser()}"}
    printed = json.loads(run(place, "audit", "--since", "1h", "--format", "json"))
    shown = [line for line in printed if line["resource_id"] == key["id"]]
    assert [line["type"] for line in shown] == ["api_key.created", "api_key.updated", "api_key.deleted"]
    assert key["key"] not in json.dumps(printed)
    table = run(place, "audit")
    assert "images_per_day=null->5" in table
    assert key["key"] not in table


def test_the_first_admin_key_is_the_systems_own(place, organization):
    [line] = organization.audit_logs.list(actor_ids=["system"])
    assert line.type == "api_key.created"
    assert line.after["name"] == "GLM_GATEWAY_ADMIN_KEY"


def test_parking_and_memory_leave_lines_when_there_was_something(place, organization, simulator):
    [name] = {state["name"] for state in json.loads(run(place, "upstreams", "list", "--json"))}
    both = {"event_types": ["upstream.unparked", "cache.purged"]}
    run(place, "upstreams", "unpark", name)
    run(place, "cache", "purge")
    assert organization.audit_logs.list(**both).data == [], "there was nothing to do"
    assert place.post({"prompt": "a fox"})[0] == 200
    run(place, "cache", "purge", "--project", "default")
    simulator.fault("no_balance", times=1)
    assert place.post({"prompt": "another fox"})[0] != 200
    run(place, "upstreams", "unpark", name)
    unparked, purged = organization.audit_logs.list(**both).data
    assert (unparked.to_dict()["upstream.unparked"], unparked.after) == ({"id": name}, {"parked": []})
    assert unparked.before == {"parked": ["glm-image"]}
    assert (purged.project.id, purged.before) == ("proj_default", {"prompts": 1})


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_all_lines_come_page_by_page(organization, limit):
    project = organization.projects.create(name=f"pages of {limit}")
    for number in range(6):
        organization.projects.update(project.id, name=f"pages of {limit} {number}")
    lines = [*organization.audit_logs.list(limit=limit, project_ids=[project.id])]
    assert [line.after["name"].rpartition(" ")[2] for line in lines] == ["5", "4", "3", "2", "1", "0", str(limit)]
    ids = [line.id for line in lines]
    assert len(set(ids)) == 7
    page = organization.audit_logs.list(limit=2, project_ids=[project.id], before=ids[4])
    assert ([line.id for line in page.data], page.has_more) == (ids[2:4], True)
    page = organization.audit_logs.list(limit=100, project_ids=[project.id], before=ids[2])
    assert ([line.id for line in page.data], page.has_more) == (ids[:2], False)
    page = organization.audit_logs.list(project_ids=[project.id], after=ids[4])
    assert ([line.id for line in page.data], page.has_more) == (ids[5:], False)
    assert [line.id for line in organization.audit_logs.list(limit=1, project_ids=[project.id], before=ids[4])] == ids[
        3:4
    ]


def test_a_page_says_where_it_ends(place, organization):
    organization.projects.create(name="one")
    _, _, content = http("GET", f"{place.url}{AUDIT_LOGS}?limit=1", headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    body = json.loads(content)
    [line] = body["data"]
    assert (body["object"], body["has_more"]) == ("list", True)
    assert body["first_id"] == body["last_id"] == line["id"]
    nobody = organization.audit_logs.list(project_ids=["proj_nobody"])
    assert (nobody.data, nobody.has_more, nobody.last_id) == ([], False, None)


def test_lines_are_found_by_type_and_time(organization):
    project = organization.projects.create(name="of a time")
    while time.time() < project.created_at + 1:
        time.sleep(0.05)
    organization.projects.archive(project.id)
    late, early = organization.audit_logs.list(project_ids=[project.id]).data
    assert late.effective_at > early.effective_at

    def found(**bounds):
        return types(organization.audit_logs.list(project_ids=[project.id], effective_at=bounds))

    both = ["project.archived", "project.created"]
    assert found(gte=early.effective_at) == found(lte=late.effective_at) == both
    assert found(gt=early.effective_at) == found(gte=late.effective_at) == both[:1]
    assert found(lt=late.effective_at) == found(lte=early.effective_at) == both[1:]
    assert found(gt=early.effective_at, lt=late.effective_at) == []
    assert found(gte=-(10**30), lte=10**30) == both
    assert found(gt=10**30) == []
    names = ["project.archived", "project.deleted"]
    assert types(organization.audit_logs.list(project_ids=[project.id], event_types=names)) == both[:1]


@pytest.mark.parametrize("query", ["event_types=project.archived,project.x", "event_types[]=project.archived"])
def test_lists_come_in_all_spellings(place, organization, query):
    project = organization.projects.create(name=f"spelt {query}")
    organization.projects.archive(project.id)
    path = f"{AUDIT_LOGS}?project_ids={project.id}&{query}"
    _, _, content = http("GET", place.url + path, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert [line["type"] for line in json.loads(content)["data"]] == ["project.archived"]


def test_a_change_that_is_refused_leaves_no_line(organization):
    project = organization.projects.create(name="once")
    newest = organization.audit_logs.list(limit=1).data[0].id
    with pytest.raises(openai.BadRequestError):
        organization.projects.create(name="once")
    with pytest.raises(openai.BadRequestError):
        organization.projects.archive("proj_default")
    organization.projects.update(project.id, name="once")
    assert organization.audit_logs.list(limit=1).data[0].id == newest


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("limit=0", "invalid_value", "limit"),
        ("limit=101", "invalid_value", "limit"),
        ("after=proj_x", "invalid_value", "after"),
        ("before=audit_log-", "invalid_value", "before"),
        ("effective_at[gt]=yesterday", "invalid_value", "effective_at[gt]"),
        ("actor_emails[]=a@b.example", "unsupported_parameter", "actor_emails"),
        ("tenant_only=true", "unsupported_parameter", "tenant_only"),
        ("resource_ids[]=%00", "invalid_value", "resource_ids"),
    ],
)
def test_what_cannot_be_asked(place, query, code, param):
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    status, _, content = http("GET", f"{place.url}{AUDIT_LOGS}?{query}", headers=headers)
    error = json.loads(content)["error"]
    assert (status, error["code"], error["param"]) == (400, code, param)


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("DELETE", 405), ("PUT", 405), ("PATCH", 405)])
def test_nobody_writes_it(place, method, status):
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    assert http(method, place.url + AUDIT_LOGS, headers=headers)[0] == status
    assert http(method, f"{place.url}{AUDIT_LOGS}/audit_log-1", headers=headers)[0] == 404


@pytest.mark.parametrize(
    ("key", "status"), [(None, 401), ("sk-admin-nobody-has-this-one", 401), ("the project's", 403)]
)
def test_only_admin_keys_read_it(place, key, status):
    secret = place.key if key == "the project's" else key
    headers = {"Authorization": f"Bearer {secret}"} if key else {}
    assert http("GET", place.url + AUDIT_LOGS, headers=headers)[0] == status
