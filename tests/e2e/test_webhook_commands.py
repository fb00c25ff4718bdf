"""The operator's commands of webhooks, without a gateway."""

import json
import re

import pytest

from tests import servers
from tests.servers import glm_gateway

URL = "https://hooks.example.com/alerts"
SECRET = re.compile(r"whsec_[0-9A-Za-z+/]{43}=")


@pytest.fixture
def env(tmp_path):
    return servers.environment(GLM_GATEWAY_DATA_DIR=str(tmp_path))


def shown(env, *words):
    done = glm_gateway("webhooks", *words, "--json", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_secret_is_printed_when_it_is_new_and_never_again(env):
    made = glm_gateway("webhooks", "set", "default", "--url", URL, env=env)
    assert SECRET.fullmatch(made.stdout.strip())
    changed = shown(env, "set", "default", "--thresholds", "100,70")
    assert (changed["thresholds"], changed["url"], "secret" in changed) == ([70, 100], URL, False)
    assert "secret" not in shown(env, "show", "default")
    rotated = shown(env, "set", "default", "--new-secret")
    assert SECRET.fullmatch(rotated["secret"])
    assert rotated["secret"] != made.stdout.strip()
    table = glm_gateway("webhooks", "show", "default", env=env).stdout
    assert URL in table
    assert "70,100" in table
    assert "whsec_" not in table


def test_an_event_waits_until_a_gateway_runs(env):
    shown(env, "set", "default", "--url", URL)
    test = glm_gateway("webhooks", "test", "default", env=env)
    [waiting] = shown(env, "history", "default")
    assert (waiting["id"], waiting["state"], waiting["tries"]) == (test.stdout.strip(), "pending", 0)
    assert glm_gateway("webhooks", "remove", "default", env=env).returncode == 0
    assert [one["state"] for one in shown(env, "history", "default")] == ["failed"]
    assert "webhook.test" in glm_gateway("webhooks", "history", "default", env=env).stdout


@pytest.mark.parametrize(
    "words",
    [
        ("show", "default"),
        ("remove", "default"),
        ("test", "default"),
        ("set", "default"),
        ("set", "nobody", "--url", URL),
        ("set", "default", "--url", "hooks.example.com"),
        ("set", "default", "--url", URL, "--thresholds", "many"),
        ("history", "nobody"),
    ],
)
def test_what_cannot_be_is_one_sentence(env, words):
    refused = glm_gateway("webhooks", *words, env=env)
    assert (refused.returncode, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 1)
