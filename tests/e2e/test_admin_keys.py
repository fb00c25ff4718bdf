"""Where the first admin key comes from, and that no secret of one is ever shown again."""

import json
import re

import pytest

from tests import servers
from tests.servers import glm_gateway, http

GIVEN = "sk-admin-chosen-by-the-operator"


def listed(env):
    return json.loads(glm_gateway("admin-keys", "list", "--json", env=env).stdout)


def printed(process):
    return re.findall(r"sk-admin-[0-9A-Za-z]{50}", process.output())


def generates(gateway, secret):
    status, _, content = gateway.post({"prompt": "a fox", "size": "512x512"}, key=secret)
    return status, json.loads(content)["error"]["type"]


def test_the_first_start_prints_a_key_once(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_ADMIN_KEY="") as running:
        [secret] = printed(running.process)
        assert generates(running, secret) == (403, "invalid_request_error")
        running.process.stop()
        running.process.start()
        servers.wait_until(lambda: servers.answers(f"{running.url}/readyz"), what="the second start")
        assert printed(running.process) == [secret]
        [key] = listed(running.env)
    assert (key["name"], key["state"], secret[-4:]) == ("first", "active", key["redacted"][-4:])


def test_a_chosen_key_is_neither_printed_nor_replaced(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_ADMIN_KEY=GIVEN, LOG_LEVEL="debug") as running:
        assert generates(running, GIVEN) == (403, "invalid_request_error")
        status, _, _ = http("GET", f"{running.url}/v1/models", headers={"Authorization": f"Bearer {GIVEN}"})
        assert status == 403
        [key] = listed(running.env)
        assert key["name"] == "GLM_GATEWAY_ADMIN_KEY"
        assert "sk-admin-" not in running.process.output()


def test_the_commands_make_list_and_withdraw(tmp_path):
    env = servers.environment(GLM_GATEWAY_DATA_DIR=str(tmp_path))
    made = glm_gateway("admin-keys", "create", "--name", "ci", "--expires", "30d", env=env)
    assert re.fullmatch(r"sk-admin-[0-9A-Za-z]{50}\n", made.stdout)
    [key] = listed(env)
    assert (key["name"], key["state"]) == ("ci", "active")
    assert made.stdout.strip() not in json.dumps(key)
    assert glm_gateway("admin-keys", "revoke", key["id"], env=env).returncode == 0
    assert [key["state"] for key in listed(env)] == ["revoked"]
    table = glm_gateway("admin-keys", "list", env=env).stdout
    assert "revoked" in table


@pytest.mark.parametrize("words", [("revoke", "nobody"), ("create", "--name", "x", "--expires", "soon")])
def test_what_cannot_be_is_one_sentence(tmp_path, words):
    refused = glm_gateway("admin-keys", *words, env=servers.environment(GLM_GATEWAY_DATA_DIR=str(tmp_path)))
    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
