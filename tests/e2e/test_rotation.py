"""The installation's secret is replaced while two gateways serve, by the steps that deploy/README.md gives."""

import json
import re

import pytest
from standardwebhooks import WebhookVerificationError

from gateway.domain.projects import DEFAULT_ID
from tests import servers
from tests.fleet import fleet
from tests.receivers import ask_webhook, receiving
from tests.servers import ADMIN_KEY

OLD, NEW = "the old secret", "the new secret"


@pytest.fixture
def running(tmp_path, simulator):
    with fleet(tmp_path, simulator, 2, GLM_GATEWAY_SECRET_KEY=OLD) as replicas:
        yield replicas


def restarted(gateway, secrets):
    """Stop a gateway and start it with other secrets; the one beside it goes on."""
    assert gateway.process.stop() == 0
    gateway.env["GLM_GATEWAY_SECRET_KEY"] = secrets
    gateway.process.start()
    servers.wait_until(lambda: servers.answers(f"{gateway.url}/readyz"), 60, what=gateway.url)


def made_by(gateway, name):
    """A key that a replica makes, with an admin key of before, and the URL of a picture that it signs."""
    path, headers = f"/v1/organization/projects/{DEFAULT_ID}/service_accounts", {"Authorization": f"Bearer {ADMIN_KEY}"}
    status, _, content = servers.http("POST", gateway.url + path, body={"name": name}, headers=headers)
    assert status == 200, content
    return json.loads(content)["api_key"]["value"], url_of(gateway, gateway.key)


def url_of(gateway, key):
    status, _, content = gateway.post({"prompt": "a fox", "response_format": "url"}, key=key)
    assert status == 200, content
    return json.loads(content)["data"][0]["url"].partition(gateway.url)[2]


def opens(gateway, keys, urls):
    """The statuses that keys and URLs have on a gateway, its own first key before them."""
    shown, headers = f"{gateway.url}/v1/models", [{"Authorization": f"Bearer {key}"} for key in (gateway.key, *keys)]
    statuses = [servers.http("GET", shown, headers=header)[0] for header in headers]
    return statuses, [servers.http("GET", gateway.url + url)[0] for url in urls]


def doctor_of_secret(gateway):
    done = servers.glm_gateway("doctor", "--format", "json", env=gateway.env)
    [line] = [line for line in json.loads(done.stdout) if line["part"] == "secret"]
    return line["verdict"], line["said"] + line["advice"]


def told(gateway, receiver):
    """Let the project's webhook post something, and wait for it."""
    receiver.posts.clear()
    assert servers.glm_gateway("webhooks", "test", "default", env=gateway.env).returncode == 0
    servers.wait_until(lambda: receiver.posts, what="a post")


def test_key_by_key_and_replica_by_replica(running):
    """Not in less time: a replica has to stop and start for every step."""
    one, two = running.gateways
    idle, one.key = one.key, two.key  # every other key is used on the second, which writes what it learnt when it ends
    keys, urls = [], []
    for secrets in (f"{OLD},{NEW}", f"{NEW},{OLD}"):
        for gateway in (one, two):
            restarted(gateway, secrets)
            for maker in (one, two):  # of which one has other secrets for a while
                key, url = made_by(maker, f"key {len(keys)}")
                keys.append(key)
                urls.append(url)
            for reader in (one, two):
                assert opens(reader, keys, urls) == ([200] * (len(keys) + 1), [200] * len(urls))
    verdict, said = doctor_of_secret(one)
    assert verdict == "warning"
    assert idle[len("sk-glm-") :][:12] in said
    restarted(two, NEW)
    for reader in (one, two):
        assert opens(reader, keys, urls)[0] == [200] * (len(keys) + 1)
    assert 403 in opens(two, [], urls)[1]  # those of the old secret
    assert opens(two, [idle], [])[0] == [200, 401]  # nobody has used it
    verdict, said = doctor_of_secret(two)
    assert (verdict, re.findall(r"\b[0-9A-Za-z]{12}\b", said)) == ("wrong", [idle[len("sk-glm-") :][:12]])
    assert opens(one, [idle], [])[0] == [200, 200]
    restarted(one, NEW)
    assert opens(one, [idle], [])[0] == [200, 200]  # at the second in 30 s, as long as it remembers the refusal
    assert doctor_of_secret(one)[0] == "ok"


def test_webhooks_are_signed_by_both_until_the_receiver_has_the_new_one(tmp_path, simulator):
    settings = {"GLM_GATEWAY_SECRET_KEY": OLD, "GLM_GATEWAY_WEBHOOKS__ALLOW_PRIVATE_HOSTS": "true"}
    with servers.gateway(tmp_path, simulator, **settings) as gateway, receiving() as receiver:
        old = ask_webhook(gateway, "POST", body={"url": receiver.url})[1]["secret"]
        restarted(gateway, f"{NEW},{OLD}")
        told(gateway, receiver)
        assert receiver.verified(old)
        new = ask_webhook(gateway, "POST", body={"new_secret": True})[1]["secret"]
        told(gateway, receiver)
        assert receiver.verified(old) == receiver.verified(new) != []
        restarted(gateway, NEW)
        told(gateway, receiver)
        assert receiver.verified(new)
        with pytest.raises(WebhookVerificationError):
            receiver.verified(old)
