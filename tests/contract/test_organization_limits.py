"""Limits over the administration API: OpenAI's words for them with its SDK, and the paths that have them all."""

import json
from decimal import Decimal

import openai
import pytest

from tests import servers
from tests.contract.test_organization import PROJECTS, a_name, ask, error, felt, opened, status_of

UNLIMITED = 10**15
NONE = {
    "requests_per_minute": None,
    "images_per_minute": None,
    "images_per_day": None,
    "images_per_month": None,
    "concurrent": None,
    "spend_per_month": None,
    "currency": "CNY",
    "shadow": False,
}
COUNTS = [name for name in NONE if name not in {"spend_per_month", "currency", "shadow"}]


@pytest.fixture
def projects(gateway):
    with opened(gateway) as client:
        yield client.admin.organization.projects


@pytest.fixture
def project(projects):
    return projects.create(name=a_name()).id


def new_key(gateway, project):
    """A key of a project, without a process of its own for the command: its id and its secret."""
    status, made = ask(gateway, "POST", f"{PROJECTS}/{project}/service_accounts", {"name": a_name()})
    assert status == 200, made
    return made["id"], made["api_key"]["value"]


def ask_picture(gateway, secret, **asked):
    status, _, content = gateway.post({"prompt": "a fox", "size": "512x512", **asked}, key=secret)
    return status, json.loads(content).get("error", {}).get("code")


def limits_of(gateway, place):
    status, body = ask(gateway, "GET", f"{PROJECTS}/{place}/limits")
    assert status == 200
    return body


def set_limits(gateway, place, body):
    status, answer = ask(gateway, "POST", f"{PROJECTS}/{place}/limits", body)
    assert status == 200, answer
    return answer


# Limits in our own words


def test_a_project_without_limits_says_so(gateway, project):
    words = {"object": "organization.project.limits", "project_id": project, "weight": 1, "markup": "1"}
    assert limits_of(gateway, project) == NONE | words


def test_a_key_without_limits_says_so(gateway, project):
    key_id, _ = new_key(gateway, project)
    words = {"object": "organization.project.api_key.limits", "project_id": project, "key_id": key_id}
    assert limits_of(gateway, f"{project}/api_keys/{key_id}") == NONE | words | {"cache_scope": None}


def test_what_is_named_changes_and_nothing_else(gateway, project):
    key_id, _ = new_key(gateway, project)
    for place, own in (
        (project, {"weight": 7, "markup": "1.25"}),
        (f"{project}/api_keys/{key_id}", {"cache_scope": "key"}),
    ):
        before = limits_of(gateway, place)
        every = {name: number for number, name in enumerate(COUNTS)} | {"spend_per_month": "12.50", "shadow": True}
        changed = before | every | own
        assert set_limits(gateway, place, every | own) == changed
        assert set_limits(gateway, place, {}) == changed
        assert set_limits(gateway, place, {"images_per_day": None}) == changed | {"images_per_day": None}
        assert limits_of(gateway, place) == changed | {"images_per_day": None}


def test_a_key_may_leave_its_cache_scope_to_the_installation(gateway, project):
    key_id, _ = new_key(gateway, project)
    set_limits(gateway, f"{project}/api_keys/{key_id}", {"cache_scope": "off"})
    assert set_limits(gateway, f"{project}/api_keys/{key_id}", {"cache_scope": None})["cache_scope"] is None


def test_commands_and_the_api_speak_of_the_same_limits(gateway, project):
    command = ("projects", "limits", project, "--images-per-day", "5", "--spend-per-month", "0.000001", "--json")
    assert servers.glm_gateway(*command, env=gateway.env).returncode == 0
    body = limits_of(gateway, project)
    assert (body["images_per_day"], body["spend_per_month"]) == (5, "0.000001")
    set_limits(gateway, project, {"concurrent": 3})
    shown = servers.glm_gateway("projects", "show", project, "--json", env=gateway.env)
    assert json.loads(shown.stdout)["limits"]["concurrent"] == 3


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"0.1", "0.10"),
        (b"12.345678", "12.345678"),
        (b'"12.345678"', "12.345678"),
        (b"1000000000", "1000000000.00"),
        (b"1e3", "1000.00"),
        (b"0", "0.00"),
        (b"999999999.999999", "999999999.999999"),
    ],
)
def test_money_is_exact(gateway, project, sent, said):
    answer = set_limits(gateway, project, b'{"spend_per_month": ' + sent + b"}")
    assert answer["spend_per_month"] == said


@pytest.mark.parametrize("name", ["requests_per_minute", "images_per_minute", "images_per_day", "images_per_month"])
def test_a_changed_limit_holds_at_once(gateway, project, name):
    """That of a project as well as that of a key."""
    key_id, secret = new_key(gateway, project)
    assert ask_picture(gateway, secret)[0] == 200
    for place in (project, f"{project}/api_keys/{key_id}"):
        set_limits(gateway, place, {name: 0})
        refused_soon(gateway, secret)
        set_limits(gateway, place, {name: None})
        served_soon(gateway, secret)


def test_a_spend_limit_below_a_picture_lets_nothing_pass(gateway, project):
    _, secret = new_key(gateway, project)
    set_limits(gateway, project, {"spend_per_month": "0.099999"})
    refused_soon(gateway, secret)
    set_limits(gateway, project, {"spend_per_month": 0.1})
    served_soon(gateway, secret)
    refused_soon(gateway, secret)


def refused_soon(gateway, secret):
    servers.wait_until(lambda: ask_picture(gateway, secret)[0] == 429, 5, "the new limit")
    assert ask_picture(gateway, secret)[1] in {"insufficient_quota", "rate_limit_exceeded"}


def served_soon(gateway, secret):
    servers.wait_until(lambda: ask_picture(gateway, secret)[0] == 200, 5, "the lifted limit")


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"images_per_week": 1}, (400, "unknown_parameter", "images_per_week")),
        ({"project_id": "x"}, (400, "unknown_parameter", "project_id")),
        ({"images_per_day": -1}, (400, "invalid_value", "images_per_day")),
        ({"images_per_day": 1.5}, (400, "invalid_value", "images_per_day")),
        ({"images_per_day": "1"}, (400, "invalid_value", "images_per_day")),
        ({"images_per_day": "null"}, (400, "invalid_value", "images_per_day")),
        ({"images_per_day": True}, (400, "invalid_value", "images_per_day")),
        ({"images_per_day": UNLIMITED + 1}, (400, "invalid_value", "images_per_day")),
        ({"spend_per_month": -1}, (400, "invalid_value", "spend_per_month")),
        ({"spend_per_month": "a lot"}, (400, "invalid_value", "spend_per_month")),
        ({"spend_per_month": "NaN"}, (400, "invalid_value", "spend_per_month")),
        ({"spend_per_month": "1e-999999999"}, (400, "invalid_value", "spend_per_month")),
        ({"spend_per_month": "0.0000001"}, (400, "invalid_value", "spend_per_month")),
        ({"spend_per_month": 1_000_000_001}, (400, "invalid_value", "spend_per_month")),
        (b'{"spend_per_month": 0.10000000000000000001}', (400, "invalid_value", "spend_per_month")),
        ({"shadow": None}, (400, "invalid_value", "shadow")),
        ({"shadow": 1}, (400, "invalid_value", "shadow")),
        ([], (400, None, None)),
        (b"", (400, None, None)),
        (b"{", (400, None, None)),
    ],
)
def test_what_is_no_limit_changes_nothing(gateway, project, body, refusal):
    key_id, _ = new_key(gateway, project)
    for place in (project, f"{project}/api_keys/{key_id}"):
        sent = {"images_per_month": 9} | body if isinstance(body, dict) else body
        before = limits_of(gateway, place)
        assert error(ask(gateway, "POST", f"{PROJECTS}/{place}/limits", sent)) == refusal
        assert limits_of(gateway, place) == before


@pytest.mark.parametrize("markup", [-1, 100.5, None, "1,5", 1.0000001])
def test_a_markup_is_0_to_100(gateway, project, markup):
    refusal = error(ask(gateway, "POST", f"{PROJECTS}/{project}/limits", {"markup": markup}))
    assert refusal == (400, "invalid_value", "markup")


@pytest.mark.parametrize("weight", [0, 101, None, "1"])
def test_a_weight_is_1_to_100(gateway, project, weight):
    refusal = error(ask(gateway, "POST", f"{PROJECTS}/{project}/limits", {"weight": weight}))
    assert refusal == (400, "invalid_value", "weight")


def test_keys_have_no_weight_and_projects_no_cache_scope(gateway, project):
    key_id, _ = new_key(gateway, project)
    for place, name in ((f"{project}/api_keys/{key_id}", "weight"), (project, "cache_scope")):
        refusal = error(ask(gateway, "POST", f"{PROJECTS}/{place}/limits", {name: None}))
        assert refusal == (400, "unknown_parameter", name)
    place = f"{PROJECTS}/{project}/api_keys/{key_id}/limits"
    assert error(ask(gateway, "POST", place, {"cache_scope": "everybody"})) == (400, "invalid_value", "cache_scope")


def test_limits_of_what_is_not_there(gateway, project, projects):
    key_id, _ = new_key(gateway, project)
    other = projects.create(name=a_name()).id
    for method, body in (("GET", None), ("POST", {})):
        for place in ("proj_nobody", f"{other}/api_keys/{key_id}"):
            assert error(ask(gateway, method, f"{PROJECTS}/{place}/limits", body))[0] == 404
    projects.api_keys.delete(key_id, project_id=project)
    assert error(ask(gateway, "GET", f"{PROJECTS}/{project}/api_keys/{key_id}/limits"))[0] == 404


# Rate limits


def test_there_is_a_rate_limit_for_each_model(gateway, projects, project):
    listed = projects.rate_limits.list_rate_limits(project).data
    models = [one["id"] for one in json.loads(gateway.get("/v1/models")[2])["data"]]
    names = [one.model for one in listed]
    assert names[0] == "glm-image"
    assert set(names) < set(models)
    assert {(one.id, one.object) for one in listed} == {(f"rl-{name}", "project.rate_limit") for name in names}
    for one in listed:
        assert one.max_requests_per_1_minute == one.max_images_per_1_minute == UNLIMITED
        assert one.max_tokens_per_1_minute == UNLIMITED
        assert one.max_requests_per_1_day is None


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_rate_limits_come_page_by_page(projects, project, limit):
    ids = [one.id for one in projects.rate_limits.list_rate_limits(project).data]
    assert len(ids) > 3
    assert [one.id for one in projects.rate_limits.list_rate_limits(project, limit=limit)] == ids
    assert [one.id for one in projects.rate_limits.list_rate_limits(project, limit=limit, after=ids[0])] == ids[1:]
    page = projects.rate_limits.list_rate_limits(project, limit=limit, before=ids[3])
    assert [one.id for one in page.data] == ids[:3][-limit:]
    assert page.has_more == (limit < 3)
    between = projects.rate_limits.list_rate_limits(project, limit=limit, after=ids[0], before=ids[3])
    assert [one.id for one in between] == ids[1:3]


def test_all_models_share_what_one_rate_limit_says(gateway, projects, project):
    _, secret = new_key(gateway, project)
    changed = projects.rate_limits.update_rate_limit("rl-cogview-4", project_id=project, max_images_per_1_minute=2)
    assert (changed.model, changed.max_images_per_1_minute) == ("cogview-4", 2)
    listed = projects.rate_limits.list_rate_limits(project)
    assert {one.max_images_per_1_minute for one in listed} == {2}
    assert limits_of(gateway, project)["images_per_minute"] == 2
    assert ask_picture(gateway, secret, model="cogview-4")[0] == 200
    assert ask_picture(gateway, secret)[0] == 200
    assert ask_picture(gateway, secret) == (429, "rate_limit_exceeded")
    again = projects.rate_limits.update_rate_limit("rl-glm-image", project_id=project, max_requests_per_1_minute=0)
    assert (again.max_requests_per_1_minute, again.max_images_per_1_minute) == (0, 2)


def test_what_was_read_may_be_sent_back(gateway, projects, project):
    set_limits(gateway, project, {"requests_per_minute": 5})
    read = projects.rate_limits.list_rate_limits(project).data[0].to_dict()
    rates = {name: value for name, value in read.items() if name.startswith("max_")}
    projects.rate_limits.update_rate_limit(read["id"], project_id=project, **rates)
    limits = limits_of(gateway, project)
    assert (limits["requests_per_minute"], limits["images_per_minute"]) == (5, None)


def test_a_project_has_rate_limits_of_the_models_that_it_may_use(projects, project):
    projects.model_permissions.update(project, mode="allow_list", model_ids=["cogview-4", "dall-e-3"])
    ids = [one.id for one in projects.rate_limits.list_rate_limits(project, limit=1)]
    assert ids == ["rl-glm-image", "rl-cogview-4"]
    with pytest.raises(openai.NotFoundError):
        projects.rate_limits.update_rate_limit("rl-cogview-3-flash", project_id=project, max_images_per_1_minute=1)


@pytest.mark.parametrize(
    ("place", "body", "refusal"),
    [
        ("rl-glm-image", {"max_tokens_per_1_minute": 1}, (400, "unsupported_parameter", "max_tokens_per_1_minute")),
        ("rl-glm-image", {"max_requests_per_1_day": 1}, (400, "unsupported_parameter", "max_requests_per_1_day")),
        ("rl-glm-image", {"max_images_per_1_day": 1}, (400, "unknown_parameter", "max_images_per_1_day")),
        ("rl-glm-image", {"max_images_per_1_minute": "1"}, (400, "invalid_value", "max_images_per_1_minute")),
        ("rl-glm-image", {"max_images_per_1_minute": -1}, (400, "invalid_value", "max_images_per_1_minute")),
        ("rl-nothing", {"max_images_per_1_minute": 1}, (404, "not_found", "rate_limit_id")),
        ("glm-image", {"max_images_per_1_minute": 1}, (404, "not_found", "rate_limit_id")),
    ],
)
def test_what_is_no_rate_limit(gateway, project, place, body, refusal):
    assert error(ask(gateway, "POST", f"{PROJECTS}/{project}/rate_limits/{place}", body)) == refusal
    assert limits_of(gateway, project)["images_per_minute"] is None


@pytest.mark.parametrize("name", ["after", "before"])
def test_a_page_of_rate_limits_begins_at_one_of_them(gateway, project, name):
    for query in (f"{name}=rl-x", f"after=rl-x&before=rl-x&{name}=rl-x"):
        answer = error(ask(gateway, "GET", f"{PROJECTS}/{project}/rate_limits?{query}"))
        assert answer[:2] == (400, "invalid_value")


# Spend limits


def test_a_spend_limit_is_set_replaced_and_taken_away(gateway, projects, project):
    words = {"currency": "CNY", "interval": "month"}
    made = projects.spend_limit.update(project, threshold_amount=1250, **words)
    assert (made.object, made.threshold_amount, made.currency) == ("project.spend_limit", 1250, "CNY")
    assert (made.interval, made.enforcement.status) == ("month", "enforcing")
    assert projects.spend_limit.retrieve(project) == made
    assert limits_of(gateway, project)["spend_per_month"] == "12.50"
    assert projects.spend_limit.update(project, threshold_amount=10**11, **words).threshold_amount == 10**11
    assert Decimal(limits_of(gateway, project)["spend_per_month"]) == 10**9
    set_limits(gateway, project, {"shadow": True, "spend_per_month": "0.129999"})
    read = projects.spend_limit.retrieve(project)
    assert (read.threshold_amount, read.enforcement.status) == (12, "inactive")
    deleted = projects.spend_limit.delete(project)
    assert (deleted.object, deleted.deleted) == ("project.spend_limit.deleted", True)
    assert limits_of(gateway, project)["spend_per_month"] is None
    for ask_again in (projects.spend_limit.retrieve, projects.spend_limit.delete):
        with pytest.raises(openai.NotFoundError):
            ask_again(project)


def test_a_spend_limit_is_held_to_the_hundredth(gateway, projects, project):
    _, secret = new_key(gateway, project)
    projects.spend_limit.update(project, threshold_amount=20, currency="CNY", interval="month")
    assert [ask_picture(gateway, secret)[0] for _ in range(2)] == [200, 200]
    assert ask_picture(gateway, secret) == (429, "insufficient_quota")
    projects.spend_limit.update(project, threshold_amount=30, currency="CNY", interval="month")
    served_soon(gateway, secret)


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"currency": "USD"}, (400, "invalid_value", "currency")),
        ({"currency": None}, (400, "invalid_value", "currency")),
        ({"interval": "day"}, (400, "invalid_value", "interval")),
        ({"threshold_amount": "1"}, (400, "invalid_value", "threshold_amount")),
        ({"threshold_amount": -1}, (400, "invalid_value", "threshold_amount")),
        ({"threshold_amount": 0.5}, (400, "invalid_value", "threshold_amount")),
        ({"threshold_amount": 10**11 + 1}, (400, "invalid_value", "threshold_amount")),
        ({"enforcement": "inactive"}, (400, "unknown_parameter", "enforcement")),
    ],
)
def test_what_is_no_spend_limit(gateway, project, changed, refusal):
    body = {"threshold_amount": 1, "currency": "CNY", "interval": "month"} | changed
    assert error(ask(gateway, "POST", f"{PROJECTS}/{project}/spend_limit", body)) == refusal
    assert limits_of(gateway, project)["spend_per_month"] is None


@pytest.mark.parametrize("missing", ["threshold_amount", "currency", "interval"])
def test_a_spend_limit_needs_all_of_its_words(gateway, project, missing):
    body = {"threshold_amount": 1, "currency": "CNY", "interval": "month"}
    del body[missing]
    refusal = error(ask(gateway, "POST", f"{PROJECTS}/{project}/spend_limit", body))
    assert refusal == (400, "missing_required_parameter", missing)


def test_there_is_no_spend_limit_over_all_projects(gateway):
    with opened(gateway) as client:
        spend_limit = client.admin.organization.spend_limit
        with pytest.raises(openai.BadRequestError, match="Limit each"):
            spend_limit.update(threshold_amount=1, currency="CNY", interval="month")
        for ask_again in (spend_limit.retrieve, spend_limit.delete):
            with pytest.raises(openai.NotFoundError, match="Limit each"):
                ask_again()


# Models and lifetimes


def test_a_project_uses_the_models_that_are_allowed(gateway, projects, project):
    _, secret = new_key(gateway, project)
    free = projects.model_permissions.retrieve(project)
    assert (free.object, free.mode, free.api_model_ids) == ("project.model_permissions", "deny_list", [])
    limited = projects.model_permissions.update(project, mode="allow_list", model_ids=["cogview-4", "cogview-4"])
    assert (limited.mode, limited.api_model_ids) == ("allow_list", ["cogview-4"])
    assert projects.model_permissions.retrieve(project) == limited
    servers.wait_until(lambda: ask_picture(gateway, secret) == (403, "model_not_found"), 5, "the new list")
    assert ask_picture(gateway, secret, model="cogview-4")[0] == 200
    assert projects.model_permissions.update(project, mode="deny_list", model_ids=[]) == free
    projects.model_permissions.update(project, mode="allow_list", model_ids=["cogview-4"])
    deleted = projects.model_permissions.delete(project)
    assert (deleted.object, deleted.deleted) == ("project.model_permissions.deleted", True)
    assert projects.model_permissions.retrieve(project) == free
    served_soon(gateway, secret)


@pytest.mark.parametrize(
    "body",
    [
        {"mode": "deny_list", "model_ids": ["glm-image"]},
        {"mode": "allow_list", "model_ids": []},
        {"mode": "allow_list", "model_ids": ["gpt-4o"]},
    ],
)
def test_what_is_no_list_of_models(gateway, project, body):
    refusal = error(ask(gateway, "POST", f"{PROJECTS}/{project}/model_permissions", body))
    assert refusal == (400, "invalid_value", "model_ids")


def test_a_key_gets_another_lifetime(gateway, projects, project):
    key_id, secret = new_key(gateway, project)
    kept = projects.api_keys.update(key_id, project_id=project, scopes=[])
    assert kept.expires_at is None
    longer = projects.api_keys.update(key_id, project_id=project, expires_in_seconds=31_536_000)
    assert longer.expires_at >= longer.created_at + 31_536_000
    assert status_of(gateway, secret) == 200
    projects.api_keys.update(key_id, project_id=project, expires_in_seconds=1)
    servers.wait_until(lambda: status_of(gateway, secret) == 401, 10, "the end of the key")
    projects.api_keys.update(key_id, project_id=project, expires_in_seconds=3600)
    felt(gateway, secret, 200)


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        ({"expires_in_seconds": 0}, (400, "invalid_value", "expires_in_seconds")),
        ({"expires_in_seconds": 31_536_001}, (400, "invalid_value", "expires_in_seconds")),
        ({"scopes": ["api.all.read"]}, (400, "unsupported_parameter", "scopes")),
    ],
)
def test_what_changes_no_key(gateway, project, body, refusal):
    key_id, _ = new_key(gateway, project)
    assert error(ask(gateway, "POST", f"{PROJECTS}/{project}/api_keys/{key_id}", body)) == refusal
