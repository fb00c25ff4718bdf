"""Alerts as a receiver meets them: each threshold once, signed, and in the end, whatever happens in between."""

import signal
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from tests import postgres_servers, servers
from tests.fleet import fleet
from tests.receivers import ask_webhook, deliveries, receiving

SETTINGS = {"GLM_GATEWAY_WEBHOOKS__ALLOW_PRIVATE_HOSTS": "true"}
pytestmark = pytest.mark.timeout(300)
SECONDS = 120.0  # a try takes at most 15, one whose process died comes again after 30


def watched(gateway, url, *limits):
    """Give the project of the gateway's key limits and a webhook; its secret is given."""
    if limits:
        done = servers.glm_gateway("projects", "limits", "default", *limits, env=gateway.env)
        assert done.returncode == 0, done.stderr
    status, webhook = ask_webhook(gateway, "POST", body={"url": url})
    assert status == 200, webhook
    return webhook["secret"]


def use(gateway, pictures):
    body = {"prompt": "a fox", "n": pictures, "size": "512x512", "response_format": "url"}
    status, _, content = gateway.post(body)
    assert status == 200, content


def post_a_test(gateway):
    done = servers.glm_gateway("webhooks", "test", "default", env=gateway.env)
    assert done.returncode == 0, done.stderr


def told(receiver, secret):
    """What came, without the test's own order of limits."""
    return sorted((event["data"]["limit"], event["data"]["threshold"]) for event in receiver.verified(secret))


def until_delivered(gateway, count):
    def delivered():
        states = [one["state"] for one in deliveries(gateway)]
        return states.count("delivered") == count

    servers.wait_until(delivered, SECONDS, what=f"{count} deliveries")


def start(gateway):
    gateway.process.start()
    servers.wait_until(lambda: servers.answers(f"{gateway.url}/readyz"), 60, what="the restart")


@pytest.fixture
def receiver():
    with receiving() as running:
        yield running


@contextmanager
def database_of(kind, tmp_path):
    """The settings of a database that the gateways share."""
    if kind == "sqlite":
        yield {}
        return
    with postgres_servers.postgres_server(tmp_path) as url:
        yield {"DATABASE_URL": url}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_gateways_and_a_restart_tell_each_threshold_once(tmp_path, simulator, receiver, kind):
    with database_of(kind, tmp_path) as database, fleet(tmp_path, simulator, 2, **SETTINGS, **database) as running:
        first, second = running.gateways
        limits = ("--images-per-month", "10", "--spend-per-month", "2.00")
        secret = watched(first, receiver.url + "/alerts", *limits)
        use(first, 5)
        until_delivered(first, 1)
        use(second, 3)
        until_delivered(first, 2)
        assert told(receiver, secret) == [("images_per_month", 50), ("images_per_month", 80)]
        for gateway in running.gateways:
            assert gateway.process.stop() == 0
        for gateway in running.gateways:
            start(gateway)
        use(second, 2)
        until_delivered(first, 4)
        every = [("images_per_month", 50), ("images_per_month", 80), ("images_per_month", 100), ("spend_per_month", 50)]
        assert told(receiver, secret) == sorted(every)
        assert len(set(receiver.ids())) == 4
        assert secret not in "".join(gateway.process.output() for gateway in running.gateways)
        event = next(one for one in receiver.verified(secret) if one["type"] == "spend.threshold_reached")
    assert event["data"] | {"project_id": "", "period_ends": ""} == {
        "project_id": "",
        "project": "default",
        "limit": "spend_per_month",
        "value": "2.00",
        "used": "1.00",
        "currency": "CNY",
        "threshold": 50,
        "period": f"{datetime.now(UTC):%Y-%m}",
        "period_ends": "",
    }


def test_a_receiver_that_was_down_is_told_when_it_is_back(tmp_path, simulator):
    port = servers.free_port()
    with servers.gateway(tmp_path, simulator, **SETTINGS) as gateway:
        secret = watched(gateway, f"http://127.0.0.1:{port}/", "--images-per-day", "2")
        use(gateway, 1)
        servers.wait_until(lambda: any(one["tries"] for one in deliveries(gateway)), what="a first try")
        [one] = deliveries(gateway)
        assert (one["state"], one["last_status"]) == ("pending", None)
        with receiving(port, answers=[500]) as receiver:
            until_delivered(gateway, 1)
            assert len(set(receiver.ids())) == 1
            assert {event["data"]["threshold"] for event in receiver.verified(secret)} == {50}
        assert "what it says" not in gateway.process.output()
        metrics = gateway.get("/metrics")[2].decode()
    assert 'glm_gateway_alert_posts_total{outcome="delivered"} 1.0' in metrics


def test_a_gateway_that_is_killed_while_it_posts_posts_again(tmp_path, simulator, receiver):
    receiver.answers = [None]
    with servers.gateway(tmp_path, simulator, **SETTINGS) as gateway:
        secret = watched(gateway, receiver.url, "--images-per-day", "2")
        use(gateway, 1)
        servers.wait_until(lambda: receiver.posts, what="the post")
        gateway.process.stop(signal.SIGKILL)
        start(gateway)
        until_delivered(gateway, 1)
        assert len(set(receiver.ids())) == 1
        assert len(receiver.posts) == 2
        assert told(receiver, secret) == [("images_per_day", 50)] * 2


def test_a_receiver_that_wants_nothing_more_gets_nothing_until_it_is_set_again(tmp_path, simulator, receiver):
    receiver.answers = [410]
    with servers.gateway(tmp_path, simulator, **SETTINGS) as gateway:
        secret = watched(gateway, receiver.url)
        post_a_test(gateway)
        servers.wait_until(lambda: deliveries(gateway)[0]["state"] == "failed", SECONDS, what="the end")
        assert ask_webhook(gateway)[1]["disabled_at"] is not None
        refused = servers.glm_gateway("webhooks", "test", "default", env=gateway.env)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        status, enabled = ask_webhook(gateway, "POST", body={"thresholds": [90]})
        assert (status, enabled["disabled_at"], enabled["secret"]) == (200, None, None)
        post_a_test(gateway)
        until_delivered(gateway, 1)
        assert [event["type"] for event in receiver.verified(secret)] == ["webhook.test"] * 2


def test_without_the_setting_nothing_is_posted_inside(tmp_path, simulator, receiver):
    with servers.gateway(tmp_path, simulator) as gateway:
        words = ("webhooks", "set", "default", "--url")
        refused = servers.glm_gateway(*words, receiver.url, env=gateway.env)
        assert refused.returncode == 2
        assert "allow_private_hosts" in refused.stderr
        # A name that leads inside, as the setting let it be stored when it was on.
        port = receiver.url.rpartition(":")[2]
        url = f"https://localhost:{port}/"
        assert servers.glm_gateway(*words, url, env={**gateway.env, **SETTINGS}).returncode == 0
        post_a_test(gateway)
        servers.wait_until(lambda: deliveries(gateway)[0]["last_error"], SECONDS, what="the refusal")
        assert "allow_private_hosts" in deliveries(gateway)[0]["last_error"]
    assert receiver.posts == []
