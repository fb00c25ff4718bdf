"""glm-gateway upstreams: what the operator sees of the accounts, and does about them, while gateways run."""

import json

import pytest

from tests import servers
from tests.fleet import fleet
from tests.servers import UPSTREAM_KEY, glm_gateway, http, wait_until

OTHER_KEY = "fedcba9876543210fedcba9876543210.SimulatorKey4321"


@pytest.fixture
def two(tmp_path, simulator):
    """Two gateways with two accounts."""
    with fleet(
        tmp_path, simulator, 2, ZHIPUAI_API_KEY=f"{UPSTREAM_KEY},{OTHER_KEY}", ZHIPUAI_CONCURRENCY="1"
    ) as running:
        yield running


def upstreams(running, *words, code=0):
    done = glm_gateway("upstreams", *words, env=running.env)
    assert done.returncode == code, done.stderr
    return done.stdout


def states(running):
    return {
        state["name"]: state
        for state in json.loads(upstreams(running, "list", "--json"))
        if state["model"] == "glm-image"
    }


def test_an_account_that_is_left_alone_is_seen_everywhere_and_used_again_when_told(two, simulator):
    simulator.fault("no_balance", times=1)
    for number, gateway in enumerate([*two.gateways] * 2):
        assert gateway.post({"prompt": f"p{number}"})[0] == 200
    calls = len(simulator.calls())
    assert calls == 5  # one of them for nothing
    parked = [state for state in states(two).values() if state["park"]]
    [name] = [state["name"] for state in parked]
    assert parked[0]["park"]["code"] == "1113"
    table = upstreams(two, "list")
    assert "left alone until" in table
    assert "(code 1113)" in table
    for gateway in two.gateways:
        ready = json.loads(http("GET", f"{gateway.url}/readyz")[2])
        assert ready["ready"]
        assert [(one["upstream"], one["model"], one["code"]) for one in ready["parked"]] == [
            (name, "glm-image", "1113")
        ]
        series = f'glm_gateway_upstream_parked{{model="glm-image",upstream="{name}"}} 1.0'
        # Each replica looks once a second.
        wait_until(lambda at=gateway.url, it=series: it in http("GET", f"{at}/metrics")[2].decode(), what=series)
    assert "is used again" in upstreams(two, "unpark", name)
    assert "was not left alone" in upstreams(two, "unpark", name)
    wait_until(lambda: "parked" not in json.loads(http("GET", f"{two.gateways[1].url}/readyz")[2]), what="the news")


def test_when_all_accounts_are_left_alone_the_client_hears_why_and_probes_see_it(two, simulator):
    simulator.fault("wrong_key")
    gateway, other = two.gateways
    status, headers, content = gateway.post({"prompt": "nobody makes this"})
    error = json.loads(content)["error"]
    assert (status, error["code"]) == (503, "upstream_unavailable")
    assert "key is not valid" in error["message"]
    assert headers["x-should-retry"] == "false"
    calls = len(simulator.calls())
    assert calls == 2  # each key once
    assert other.post({"prompt": "nor this"})[0] == 503
    assert len(simulator.calls()) == calls
    wait_until(lambda: http("GET", f"{other.url}/readyz")[0] == 503, what="readiness")
    assert json.loads(http("GET", f"{other.url}/readyz")[2])["parts"]["upstreams"] == "failing"


def test_a_test_makes_and_pays_nothing_unless_told_to(two, simulator):
    verdicts = json.loads(upstreams(two, "test", "--json"))
    assert [(one["name"], one["well"]) for one in verdicts] == [("zhipuai-1", True), ("zhipuai-2", True)]
    assert simulator.stats()["images"] == 0
    simulator.fault("wrong_key", times=1)
    table = upstreams(two, "test", code=1)
    assert "zhipuai-1  glm-image  failed  401" in table
    assert "zhipuai-2  glm-image  ok" in table
    assert "A picture was made and paid" in upstreams(two, "test", "zhipuai-2", "--pay")
    assert simulator.stats()["images"] == 1
    assert states(two)["zhipuai-1"]["park"] is None


def test_a_model_that_no_account_makes_is_not_offered(tmp_path, simulator):
    config = tmp_path / "gateway.toml"
    table = f'[[upstreams]]\nname = "one"\napi_key = "{UPSTREAM_KEY}"\nbase_url = "{simulator.base_url}"\n'
    config.write_text(table + 'models = ["cogview-4-250304"]\n')
    named = {"ZHIPUAI_API_KEY": "", "GLM_GATEWAY_CONFIG": str(config)}
    with servers.gateway(tmp_path, simulator, **named) as running:
        listed = {model["id"] for model in json.loads(running.get("/v1/models")[2])["data"]}
        assert "cogview-4-250304" in listed
        assert "glm-image" not in listed
        status, _, content = running.post({"prompt": "a fox", "model": "glm-image"})
        assert (status, json.loads(content)["error"]["code"]) == (404, "model_not_found")
        assert running.post({"prompt": "a fox"})[0] == 200


def test_an_upstream_that_is_not_there_is_said_to_be(tmp_path, simulator):
    class Nowhere:
        base_url = f"http://127.0.0.1:{servers.free_port()}/api/paas/v4"

    with servers.gateway(tmp_path, Nowhere) as running:
        table = upstreams(running, "test", code=1)
        assert "cannot be reached" in table
        wrong = glm_gateway("upstreams", "unpark", "nobody", env=running.env)
        assert wrong.returncode == 2
        assert "No upstream is called 'nobody'" in wrong.stderr
