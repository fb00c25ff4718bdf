"""The administration API's webhooks of projects: an addition of our own, in the form of OpenAI's objects."""

import json
import re
import secrets
import time

import pytest

from tests import servers
from tests.servers import ADMIN_KEY, http

URL = "https://hooks.invalid/alerts"  # a name that leads nowhere (RFC 2606)


@pytest.fixture
def ask(gateway):
    """Ask for the webhook of a new project."""

    def asked(method, path="", body=None, key=ADMIN_KEY):
        headers = {"Authorization": f"Bearer {key}"}
        status, _, content = http(method, gateway.url + asked.project + path, body=body, headers=headers)
        return status, json.loads(content)

    asked.project, asked.name = "/v1/organization/projects", f"p {secrets.token_hex(6)}"
    _, project = asked("POST", body={"name": asked.name})
    asked.id = project["id"]
    asked.project = f"/v1/organization/projects/{asked.id}/webhook"
    return asked


def error(answer):
    status, body = answer
    return status, body["error"]["code"], body["error"]["param"]


def test_a_webhook_is_made_changed_and_removed(ask):
    before = int(time.time())
    status, made = ask("POST", body={"url": URL})
    assert (status, made["object"], made["project_id"]) == (200, "organization.project.webhook", ask.id)
    assert (made["url"], made["thresholds"], made["disabled_at"]) == (URL, [50, 80, 100], None)
    assert before <= made["created_at"] <= time.time()
    secret = made.pop("secret")
    assert re.fullmatch(r"whsec_[0-9A-Za-z+/]{43}=", secret)
    assert ask("GET") == (200, made)
    assert ask("POST", body={"thresholds": [90, 10]}) == (200, {**made, "thresholds": [10, 90], "secret": None})
    _, rotated = ask("POST", body={"new_secret": True})
    assert rotated["secret"] not in (secret, None)
    assert ask("DELETE") == (
        200,
        {"project_id": ask.id, "object": "organization.project.webhook.deleted", "deleted": True},
    )
    assert error(ask("GET")) == (404, "not_found", "project")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "url"),
        ({"url": "http://hooks.invalid/"}, "invalid_value", "url"),
        ({"url": "https://10.0.0.1/"}, "invalid_value", "url"),
        ({"url": "https://169.254.169.254/"}, "invalid_value", "url"),
        ({"url": "https://hooks.invalid/\0"}, "invalid_value", "url"),
        ({"url": URL, "thresholds": []}, "invalid_value", "thresholds"),
        ({"url": URL, "thresholds": [0]}, "invalid_value", "thresholds"),
    ],
)
def test_what_cannot_be_is_refused(ask, body, code, param):
    status, body = ask("POST", body=body)
    assert (status, body["error"]["code"]) == (400, code)
    assert param in (body["error"]["param"] or body["error"]["message"])


def test_the_history_is_paged_and_an_event_can_be_sent_anew(ask, gateway):
    assert ask("GET", "/deliveries")[1]["data"] == []
    ask("POST", body={"url": URL})
    ids = []
    for _ in range(3):
        done = servers.glm_gateway("webhooks", "test", ask.name, env=gateway.env)
        assert done.returncode == 0, done.stderr
        ids.append(done.stdout.strip())
    _, first = ask("GET", "/deliveries?limit=2")
    assert ([one["id"] for one in first["data"]], first["has_more"], first["last_id"]) == (ids[:2], True, ids[1])
    _, rest = ask("GET", f"/deliveries?limit=2&after={ids[1]}")
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[2:], False)
    _, turned = ask("GET", "/deliveries?order=desc")
    assert [one["id"] for one in turned["data"]] == ids[::-1]
    servers.wait_until(lambda: ask("GET", "/deliveries")[1]["data"][0]["last_error"], 60, what="a try")
    status, again = ask("POST", f"/deliveries/{ids[0]}/redeliver")
    assert (status, again["id"], again["state"], again["type"]) == (200, ids[0], "pending", "webhook.test")
    assert error(ask("POST", "/deliveries/msg_nobody/redeliver")) == (404, "not_found", "id")
    ask("DELETE")
    assert error(ask("POST", f"/deliveries/{ids[0]}/redeliver")) == (404, "not_found", "project")
    assert {one["state"] for one in ask("GET", "/deliveries")[1]["data"]} == {"failed"}


def test_only_admin_keys_open(ask, gateway):
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/deliveries")):
        assert ask(method, path, body={} if method == "POST" else None, key=gateway.key)[0] == 403
