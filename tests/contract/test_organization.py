"""The stock `openai` SDK administers a running gateway: projects and their keys, through several pages."""

import json
import secrets
import time
from contextlib import contextmanager

import openai
import pytest
from openai import OpenAI

from tests import servers
from tests.servers import ADMIN_KEY, http

FELT_SECONDS = 1.0
PROJECTS = "/v1/organization/projects"


@contextmanager
def opened(gateway):
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with OpenAI(base_url=gateway.base_url, admin_api_key=ADMIN_KEY, max_retries=0, http_client=http_client) as client:
        yield client


@pytest.fixture
def projects(gateway):
    with opened(gateway) as client:
        yield client.admin.organization.projects


def a_name():
    return f"p {secrets.token_hex(6)}"


def new_key(gateway, project, *words):
    """A key of a project made as operators do: its id and its secret."""
    words = ("keys", "create", "--project", project, "--name", secrets.token_hex(6), "--json", *words)
    made = servers.glm_gateway(*words, env=gateway.env)
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    return key["id"], key["key"]


def status_of(gateway, secret):
    return http("GET", f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {secret}"})[0]


def felt(gateway, secret, status):
    deadline = time.monotonic() + FELT_SECONDS
    while status_of(gateway, secret) != status:
        assert time.monotonic() < deadline, f"not {status} within {FELT_SECONDS} s"


def ask(gateway, method, path, body=None, key=ADMIN_KEY):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    status, _, content = http(method, gateway.url + path, body=body, headers=headers)
    return status, json.loads(content)


def error(answer):
    """What a refusal says, of which all four keys have to be there."""
    status, body = answer
    assert {"message", "type", "param", "code"} <= set(body["error"])
    return status, body["error"]["code"], body["error"]["param"]


# Projects


def test_a_project_is_made_renamed_and_archived(gateway, projects):
    before, name, other = int(time.time()), a_name(), a_name()
    made = projects.create(name=name)
    assert made.id.startswith("proj_")
    assert (made.object, made.name, made.status) == ("organization.project", name, "active")
    assert (made.archived_at, made.external_key_id, made.residency) == (None, None, None)
    assert before <= made.created_at <= time.time()
    assert projects.retrieve(made.id) == made
    assert projects.update(made.id, name=other).name == other
    assert projects.update(made.id).name == other
    archived = projects.archive(made.id)
    assert archived.status == "archived"
    assert before <= archived.archived_at <= time.time()
    assert projects.retrieve(made.id) == archived


def test_an_archived_projects_keys_are_refused(gateway, projects):
    made = projects.create(name=a_name())
    _, secret = new_key(gateway, made.id)
    assert status_of(gateway, secret) == 200
    projects.archive(made.id)
    felt(gateway, secret, 401)


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_all_projects_come_page_by_page(projects, limit):
    made = [projects.create(name=a_name()) for _ in range(5)]
    projects.archive(made[2].id)
    ids = [made[number].id for number in (0, 1, 3, 4)]
    first = projects.list(limit=limit, after=made[0].id)
    assert [one.id for one in first] == ids[1:]
    listed = [one.id for one in projects.list(limit=limit, after=made[2].id)]
    assert listed == ids[2:], "an archived project is a place in the list all the same"
    every = [one.id for one in projects.list(limit=limit, after=made[0].id, include_archived=True)]
    assert every == [one.id for one in made[1:]]


def test_a_page_says_where_it_ends(gateway, projects):
    made = [projects.create(name=a_name()) for _ in range(3)]
    status, body = ask(gateway, "GET", f"{PROJECTS}?limit=1&after={made[0].id}")
    assert (status, body["object"], len(body["data"])) == (200, "list", 1)
    assert (body["first_id"], body["last_id"], body["has_more"]) == (made[1].id, made[1].id, True)
    _, body = ask(gateway, "GET", f"{PROJECTS}?limit=1&after={made[1].id}")
    assert body["has_more"] is False
    _, body = ask(gateway, "GET", f"{PROJECTS}?after={made[2].id}")
    assert (body["data"], body["first_id"], body["last_id"], body["has_more"]) == ([], None, None, False)


def test_the_oldest_come_first(projects):
    assert next(iter(projects.list(limit=1))).id == "proj_default"


# Keys


def test_a_projects_keys_come_page_by_page(gateway, projects):
    project = projects.create(name=a_name())
    ids = [new_key(gateway, project.id)[0] for _ in range(4)]
    assert [key.id for key in projects.api_keys.list(project.id, limit=1)] == ids
    projects.api_keys.delete(ids[1], project_id=project.id)
    assert [key.id for key in projects.api_keys.list(project.id, limit=2)] == [ids[0], *ids[2:]]
    assert [key.id for key in projects.api_keys.list(project.id, after=ids[1])] == ids[2:]


def test_a_key_in_openais_words(gateway, projects):
    project = projects.create(name=a_name())
    key_id, secret = new_key(gateway, project.id, "--expires", "1h")
    key = projects.api_keys.retrieve(key_id, project_id=project.id)
    assert (key.id, key.object) == (key_id, "organization.project.api_key")
    assert (key.redacted_value[-4:], key.owner_project_access, key.last_used_at) == (secret[-4:], "active", None)
    assert key.expires_at == key.created_at + 3600
    owner = key.owner.service_account
    assert (key.owner.type, owner.name, owner.role, owner.created_at) == (
        "service_account",
        key.name,
        "member",
        key.created_at,
    )
    assert secret not in key.to_json()


def test_a_deleted_key_is_refused_and_gone(gateway, projects):
    project = projects.create(name=a_name())
    key_id, secret = new_key(gateway, project.id)
    assert status_of(gateway, secret) == 200
    deleted = projects.api_keys.delete(key_id, project_id=project.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (key_id, "organization.project.api_key.deleted", True)
    felt(gateway, secret, 401)
    assert projects.api_keys.list(project.id).data == []
    for ask_again in (projects.api_keys.retrieve, projects.api_keys.delete):
        with pytest.raises(openai.NotFoundError):
            ask_again(key_id, project_id=project.id)


def test_keys_are_found_by_their_access(gateway, projects):
    project = projects.create(name=a_name())
    kept, disabled = (new_key(gateway, project.id)[0] for _ in range(2))
    assert servers.glm_gateway("keys", "disable", disabled, env=gateway.env).returncode == 0

    def listed(access):
        return [key.id for key in projects.api_keys.list(project.id, limit=1, owner_project_access=access)]

    assert (listed("active"), listed("inactive"), listed("any")) == ([kept], [disabled], [kept, disabled])


def test_a_key_is_found_in_its_own_project_only(gateway, projects):
    one, other = (projects.create(name=a_name()).id for _ in range(2))
    key_id, secret = new_key(gateway, one)
    with pytest.raises(openai.NotFoundError):
        projects.api_keys.delete(key_id, project_id=other)
    assert status_of(gateway, secret) == 200


# What is refused


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("sk-admin-of-another-installation", 401), ("sk-glm-x", 403)])
@pytest.mark.parametrize(("method", "path"), [("GET", PROJECTS), ("POST", PROJECTS), ("GET", f"{PROJECTS}/x/api_keys")])
def test_only_admin_keys_administer(gateway, method, path, key, status):
    assert error(ask(gateway, method, path, key=key))[0] == status


def test_a_projects_own_key_administers_nothing(gateway):
    document = json.loads(gateway.get("/schema/openapi.json")[2])
    paths = {path: methods for path, methods in document["paths"].items() if path.startswith("/v1/organization/")}
    operations = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(operations) > 30
    for method, path in operations:
        for place in (path, path.replace("{project_id}", "proj_default")):
            assert error(ask(gateway, method, place, key=gateway.key)) == (403, None, None), (method, place)
            assert error(ask(gateway, method, place, key=None)) == (401, None, None), (method, place)


def test_an_admin_key_makes_no_pictures(gateway):
    status, _, content = gateway.post({"prompt": "a fox"}, key=ADMIN_KEY)
    assert error((status, json.loads(content))) == (403, None, None)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"{", (400, None, None)),
        (b"[" * 100_000, (400, None, None)),
        (b"", (400, None, None)),
        ([], (400, None, None)),
        ({}, (400, "missing_required_parameter", "name")),
        ({"name": 1}, (400, "invalid_value", "name")),
        ({"name": ""}, (400, "invalid_value", "name")),
        ({"name": "default"}, (400, "name_taken", "name")),
        ({"name": "proj_x"}, (400, "invalid_value", "name")),
        ({"name": "x", "geography": "EU"}, (400, "unsupported_parameter", "geography")),
        ({"name": "x", "residency": {"storage": "eu"}}, (400, "unsupported_parameter", "residency")),
    ],
)
def test_what_makes_no_project(gateway, body, refusal):
    answer = ask(gateway, "POST", PROJECTS, body)
    assert error(answer) == refusal
    assert "'data'" not in answer[1]["error"]["message"], "that is a name of ours"


@pytest.mark.parametrize(
    ("method", "path", "refusal"),
    [
        ("GET", f"{PROJECTS}?limit=0", (400, "invalid_value", "limit")),
        ("GET", f"{PROJECTS}?limit=101", (400, "invalid_value", "limit")),
        ("GET", f"{PROJECTS}?limit=x", (400, "invalid_value", "limit")),
        ("GET", f"{PROJECTS}?after=proj_nobody", (400, "invalid_value", "after")),
        ("GET", f"{PROJECTS}?include_archived=maybe", (400, "invalid_value", "include_archived")),
        ("GET", f"{PROJECTS}/proj_nobody", (404, "not_found", "project")),
        ("GET", f"{PROJECTS}/default", (404, "not_found", "project_id")),
        ("GET", f"{PROJECTS}/proj_%00", (404, "not_found", "project_id")),
        ("POST", f"{PROJECTS}/proj_nobody/archive", (404, "not_found", "project")),
        ("POST", f"{PROJECTS}/proj_default/archive", (400, "invalid_value", "project")),
        ("GET", f"{PROJECTS}/proj_default/api_keys/nobody", (404, "not_found", "key_id")),
        ("GET", f"{PROJECTS}/proj_default/api_keys?owner_project_access=x", (400, "invalid_value", None)),
        ("PUT", PROJECTS, (405, None, None)),
    ],
)
def test_what_is_not_there_or_cannot_be_read(gateway, method, path, refusal):
    status, code, param = error(ask(gateway, method, path))
    assert (status, code) == refusal[:2]
    assert param == (refusal[2] or param)


def test_a_base_url_without_its_version_works_too(gateway):
    assert ask(gateway, "GET", PROJECTS.removeprefix("/v1"))[0] == 200


# Service accounts


def test_a_service_account_is_made_with_a_key_that_makes_pictures(gateway, projects):
    project = projects.create(name=a_name())
    made = projects.service_accounts.create(project.id, name="n8n", expires_in_seconds=3600)
    assert (made.object, made.name, made.role) == ("organization.project.service_account", "n8n", "member")
    assert made.api_key.object == "organization.project.service_account.api_key"
    assert made.api_key.expires_at == made.api_key.created_at + 3600
    assert gateway.post({"prompt": "a fox", "size": "512x512"}, key=made.api_key.value)[0] == 200
    [key] = projects.api_keys.list(project.id)
    assert (key.id, key.owner.service_account.id) == (made.api_key.id, made.id)
    account = projects.service_accounts.retrieve(made.id, project_id=project.id)
    assert (account.id, account.name, account.created_at) == (made.id, "n8n", made.created_at)
    assert projects.service_accounts.update(made.id, project_id=project.id, name="n9n", role="member").name == "n9n"
    deleted = projects.service_accounts.delete(made.id, project_id=project.id)
    assert (deleted.id, deleted.object) == (made.id, "organization.project.service_account.deleted")
    felt(gateway, made.api_key.value, 401)


def test_a_service_account_has_further_keys(gateway, projects):
    project = projects.create(name=a_name())
    made = projects.service_accounts.create(project.id, name="n8n")
    path = f"{PROJECTS}/{project.id}/api_keys"
    assert ask(gateway, "POST", f"{path}/{made.id}/limits", {"images_per_day": 1, "cache_scope": "key"})[0] == 200
    keys = projects.service_accounts.api_keys
    named = keys.create(made.id, project_id=project.id, name="next", expires_in_seconds=60)
    assert (named.object, named.name) == ("organization.project.service_account.api_key", "next")
    assert named.expires_at == named.created_at + 60
    other = keys.create(made.id, project_id=project.id)
    assert (other.name[:4], other.expires_at) == ("n8n ", None)
    for key in (made.api_key, named, other):
        pictures = [gateway.post({"prompt": f"fox {n}", "size": "512x512"}, key=key.value)[0] for n in range(2)]
        assert pictures == [200, 429], "each of the keys has the limits to itself"
        assert ask(gateway, "GET", f"{path}/{key.id}/limits")[1]["cache_scope"] == "key"
    owners = [
        (key.id, key.owner.service_account.id, key.owner.service_account.name)
        for key in projects.api_keys.list(project.id)
    ]
    assert owners == [(key.id, made.id, "n8n") for key in (made.api_key, named, other)]
    assert [account.id for account in projects.service_accounts.list(project.id)] == [made.id]


def test_a_service_account_lives_as_long_as_its_last_key(gateway, projects):
    project = projects.create(name=a_name())
    made = projects.service_accounts.create(project.id, name="n8n")
    further = [projects.service_accounts.api_keys.create(made.id, project_id=project.id) for _ in range(2)]
    projects.api_keys.delete(made.api_key.id, project_id=project.id)
    felt(gateway, made.api_key.value, 401)
    assert [status_of(gateway, key.value) for key in further] == [200, 200]
    assert projects.service_accounts.retrieve(made.id, project_id=project.id).name == "n8n"
    assert projects.service_accounts.update(made.id, project_id=project.id, name="n9n").name == "n9n"
    owner = projects.api_keys.retrieve(further[0].id, project_id=project.id).owner.service_account
    assert (owner.id, owner.name) == (made.id, "n9n")
    projects.service_accounts.delete(made.id, project_id=project.id)
    for key in further:
        felt(gateway, key.value, 401)
    assert projects.service_accounts.list(project.id).data == []
    for ask_again in (projects.service_accounts.retrieve, projects.service_accounts.api_keys.create):
        with pytest.raises(openai.NotFoundError):
            ask_again(made.id, project_id=project.id)


def test_a_further_key_is_no_account(gateway, projects):
    project = projects.create(name=a_name())
    made = projects.service_accounts.create(project.id, name="n8n")
    further = projects.service_accounts.api_keys.create(made.id, project_id=project.id)
    with pytest.raises(openai.NotFoundError):
        projects.service_accounts.delete(further.id, project_id=project.id)
    assert status_of(gateway, further.value) == 200


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"name": ""}, (400, "invalid_value", "name")),
        ({"name": "n8n"}, (400, "name_taken", "name")),
        ({"scopes": ["api.all.read"]}, (400, "unsupported_parameter", "scopes")),
        ({"expires_in_seconds": 0}, (400, "invalid_value", "expires_in_seconds")),
    ],
)
def test_what_makes_no_further_key(gateway, projects, body, refusal):
    project = projects.create(name=a_name())
    made = projects.service_accounts.create(project.id, name="n8n")
    path = f"{PROJECTS}/{project.id}/service_accounts/{made.id}/api_keys"
    assert error(ask(gateway, "POST", path, body)) == refusal


@pytest.mark.parametrize("limit", [1, 3])
def test_service_accounts_come_page_by_page(projects, limit):
    project = projects.create(name=a_name())
    ids = [projects.service_accounts.create(project.id, name=a_name()).id for _ in range(3)]
    assert [account.id for account in projects.service_accounts.list(project.id, limit=limit)] == ids


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"name": "x", "create_service_account_only": True}, (400, "unsupported_parameter")),
        ({"name": "x", "expires_in_seconds": 0}, (400, "invalid_value")),
        ({"name": "x", "expires_in_seconds": 31_536_001}, (400, "invalid_value")),
        ({"name": " "}, (400, "invalid_value")),
    ],
)
def test_what_makes_no_service_account(gateway, body, refusal):
    assert error(ask(gateway, "POST", f"{PROJECTS}/proj_default/service_accounts", body))[:2] == refusal


# Admin keys


def test_an_admin_key_is_made_used_and_deleted(gateway):
    with opened(gateway) as client:
        admin_keys = client.admin.organization.admin_api_keys
        made = admin_keys.create(name="ci", expires_in_seconds=60)
        assert (made.object, made.name, made.last_used_at) == ("organization.admin_api_key", "ci", None)
        assert made.expires_at == made.created_at + 60
        assert (made.owner.type, made.owner.role) == ("user", "owner")
        assert ask(gateway, "GET", PROJECTS, key=made.value)[0] == 200
        known = admin_keys.retrieve(made.id)
        assert known.last_used_at is not None
        assert made.value not in known.to_json()
        deleted = admin_keys.delete(made.id)
        assert (deleted.id, deleted.object, deleted.deleted) == (made.id, "organization.admin_api_key.deleted", True)
        assert ask(gateway, "GET", PROJECTS, key=made.value)[0] == 401
        for ask_again in (admin_keys.retrieve, admin_keys.delete):
            with pytest.raises(openai.NotFoundError):
                ask_again(made.id)


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_admin_keys_come_page_by_page_in_both_orders(gateway, limit):
    with opened(gateway) as client:
        admin_keys = client.admin.organization.admin_api_keys
        made = [admin_keys.create(name="ci").id for _ in range(4)]
        admin_keys.delete(made[2])
        shown = [made[0], made[1], made[3]]
        assert [key.id for key in admin_keys.list(limit=limit, after=made[0])] == shown[1:]
        backwards = [key.id for key in admin_keys.list(limit=limit, order="desc")]
        assert backwards[:3] == shown[::-1]
