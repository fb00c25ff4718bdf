"""The stock `openai` SDK for Node administers a running gateway, through several pages of everything."""

import json
import secrets
import time

import pytest

from tests.contract.test_openai_node import run
from tests.contract.test_organization import PROJECTS, ask, new_key
from tests.servers import ADMIN_KEY, wait_until

DAY = 86_400
PICTURES = 3


@pytest.fixture(scope="module")
def charged(shared_simulator, shared_gateway):
    """A project with pictures that are in the ledger; its id."""
    shared_simulator.reset()
    shared_gateway.unpark()
    _, body = ask(shared_gateway, "POST", PROJECTS, {"name": secrets.token_hex(8)})
    _, secret = new_key(shared_gateway, body["id"])
    assert shared_gateway.post({"prompt": "a fox", "size": "512x512", "n": PICTURES}, key=secret)[0] == 200
    path = f"/v1/organization/usage/images?start_time={int(time.time()) - DAY}&project_ids={body['id']}"

    def is_in_the_ledger():
        buckets = ask(shared_gateway, "GET", path)[1]["data"]
        return sum(one["images"] for bucket in buckets for one in bucket["results"]) == PICTURES

    wait_until(is_in_the_ledger, what="the line in the ledger")
    return body["id"]


@pytest.fixture(scope="module")
def printed(shared_gateway, charged):
    """What admin.mjs printed."""
    since = int(time.time()) // DAY * DAY - 2 * DAY
    return run("admin.mjs", shared_gateway, OPENAI_ADMIN_KEY=ADMIN_KEY, USAGE_SINCE=str(since))


def test_admin_keys(printed):
    keys = printed["adminKeys"]
    assert keys["secret"].startswith("sk-admin-")
    assert keys["listed"] == keys["made"][1:]
    assert keys["backwards"] == keys["made"][::-1]
    assert (keys["retrieved"]["id"], keys["retrieved"]["object"]) == (keys["made"][1], "organization.admin_api_key")
    assert "value" not in keys["retrieved"]
    assert [one["deleted"] for one in keys["deleted"]] == [True] * 3


def test_projects(printed):
    projects = printed["projects"]
    _, archived, last = projects["made"]
    assert projects["listed"] == projects["withArchived"] == [archived, last]
    assert projects["withoutArchived"] == [last]
    assert projects["retrieved"] == projects["renamed"]
    assert projects["renamed"]["name"].startswith("node renamed")
    assert projects["archived"]["status"] == "archived"


def test_service_accounts(printed):
    accounts = printed["serviceAccounts"]
    assert accounts["listed"] == accounts["made"]
    assert accounts["created"]["api_key"]["value"].startswith("sk-glm-")
    assert accounts["retrieved"] == accounts["renamed"]
    assert accounts["deleted"]["object"] == "organization.project.service_account.deleted"


def test_keys_of_projects(printed):
    keys, accounts = printed["apiKeys"], printed["serviceAccounts"]["made"]
    further = keys["further"]["id"]
    assert keys["further"]["value"].startswith("sk-glm-")
    assert keys["owner"]["service_account"]["id"] == accounts[0]
    assert keys["listed"] == [*accounts[:2], further]
    assert keys["left"] == [accounts[0], further]
    assert keys["retrieved"] == keys["updated"]
    assert keys["updated"]["expires_at"] >= keys["updated"]["created_at"] + 3600
    assert keys["deleted"] == {"id": accounts[1], "object": "organization.project.api_key.deleted", "deleted": True}


def test_rate_limits(printed):
    limits = printed["rateLimits"]
    assert limits["paged"] == limits["listed"]
    assert len(limits["listed"]) > 3
    assert limits["before"] == limits["listed"][:1]
    assert limits["updated"]["max_images_per_1_minute"] == limits["first"]["max_images_per_1_minute"] == 7
    assert limits["first"]["max_tokens_per_1_minute"] == 10**15


def test_spend_limits(printed):
    limit = printed["spendLimit"]
    expected = {"threshold_amount": 1234, "currency": "CNY", "interval": "month"}
    expected |= {"object": "project.spend_limit", "enforcement": {"status": "enforcing"}}
    assert limit["updated"] == limit["retrieved"] == expected
    assert limit["deleted"] == {"object": "project.spend_limit.deleted", "deleted": True}
    refused = {"class": "BadRequestError", "status": 400, "code": "invalid_value", "param": "currency"}
    assert limit["otherCurrency"] == refused
    assert (limit["gone"]["class"], limit["gone"]["status"]) == ("NotFoundError", 404)
    assert (limit["overAll"]["status"], limit["overAll"]["code"]) == (400, "unsupported_endpoint")


def test_model_permissions(printed):
    expected = {"object": "project.model_permissions", "mode": "allow_list", "model_ids": ["cogview-4"]}
    assert printed["modelPermissions"]["updated"] == printed["modelPermissions"]["retrieved"] == expected
    assert printed["modelPermissions"]["deleted"]["deleted"] is True


def test_audit_logs(printed):
    logs, project = printed["auditLogs"], printed["projects"]["made"][0]
    assert [one["id"] for one in logs["all"]] == logs["paged"]
    types = [one["type"] for one in logs["all"]]
    assert types[-2:] == ["project.updated", "project.created"]
    assert {"service_account.deleted", "api_key.deleted", "rate_limit.updated"} <= set(types)
    assert logs["all"][-1]["project.created"]["id"] == project
    named = [one["id"] for one in logs["all"] if one["type"] in {"project.created", "project.updated"}]
    assert logs["ofKinds"] == named
    assert len(named) < len(logs["paged"]) > 4, "more than two pages"


def test_usage_and_costs_come_day_by_day(printed, charged):
    for name, number in (("images", "images"), ("costs", "quantity")):
        pages = printed["usage"][name]
        assert len(pages) >= 3
        assert {len(page) for page in pages} == {1}
        results = [one for page in pages for bucket in page for one in bucket["results"]]
        mine = [one for one in results if one["project_id"] == charged]
        assert sum(one[number] for one in mine) == PICTURES, json.dumps(mine)
    assert sum(one["amount"]["value"] for one in mine) == pytest.approx(0.1 * PICTURES)
