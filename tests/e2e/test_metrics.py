"""What Prometheus reads of a gateway that was used."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import servers
from tests.deploy.tools import tool
from tests.servers import free_port, http, wait_until

GENERATIONS = "/v1/images/generations"


def samples(gateway):
    """All samples of a gateway: name and labels -> value."""
    status, headers, content = gateway.get("/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    families = text_string_to_metric_families(content.decode())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def value(gateway, name, **labels):
    return samples(gateway).get((f"glm_gateway_{name}", *sorted(labels.items())))


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A gateway of one's own; what its requests count does not depend on other tests."""
    folder = tmp_path_factory.mktemp("metrics")
    options = {"GLM_GATEWAY_CACHE__SCOPE": "project", "GLM_GATEWAY_METRICS__BY": "project"}
    with servers.simulator(folder, latency=0.3) as upstream, servers.gateway(folder, upstream, **options) as gateway:
        yield gateway, upstream


def test_pictures_are_counted_by_where_they_come_from(used):
    gateway, _ = used
    assert gateway.post({"prompt": "one fox", "n": 2})[0] == 200
    assert gateway.post({"prompt": "one fox", "n": 3})[0] == 200
    owner = {"model": "glm-image", "project": "proj_default", "key": ""}
    wait_until(lambda: value(gateway, "pictures_charged_total", **owner) == 3, what="charges")
    assert value(gateway, "pictures_made_total", model="glm-image") == 3
    assert value(gateway, "pictures_delivered_total", model="glm-image") == 3
    assert value(gateway, "pictures_cached_total", model="glm-image") == 2
    assert value(gateway, "jobs_total", model="glm-image", outcome="delivered") == 2
    price = value(gateway, "price_total", currency="CNY", **owner)
    assert price == pytest.approx(0.3)
    assert value(gateway, "cost_total", model="glm-image", currency="CNY") == pytest.approx(0.3)


def test_requests_are_counted_by_route_model_status_and_code(used):
    gateway, upstream = used
    before = samples(gateway)
    upstream.fault("moderation", times=1)
    assert gateway.post({"prompt": "refused"})[0] == 400
    assert gateway.post({"prompt": "x"}, key="sk-glm-wrong")[0] == 401
    assert http("GET", f"{gateway.url}/nowhere/{'x' * 50}")[0] == 404
    after = samples(gateway)

    def grown(**labels):
        name = ("glm_gateway_requests_total", *sorted(labels.items()))
        return after[name] - before.get(name, 0)

    refused = {"route": GENERATIONS, "status": "4xx"}
    assert grown(**refused, model="glm-image", code="content_policy_violation") == 1
    assert grown(**refused, model="", code="invalid_api_key") == 1
    assert grown(route="(none)", model="", status="4xx", code="") == 1
    assert not any("xxxx" in str(labels) for labels in after)


def test_times_tell_the_gateway_from_the_upstream(used):
    gateway, _ = used
    names = ("request_seconds_sum", "own_seconds_sum")
    before = [value(gateway, name, route=GENERATIONS) or 0 for name in names]
    assert gateway.post({"prompt": "how long"})[0] == 200
    whole, own = (value(gateway, name, route=GENERATIONS) - was for name, was in zip(names, before, strict=True))
    assert whole > 0.3 > own > 0
    assert value(gateway, "upstream_seconds_bucket", model="glm-image", le="300.0") >= 1
    assert value(gateway, "queue_seconds_bucket", model="glm-image", le="300.0") >= 1
    for name in ("request_seconds_bucket", "own_seconds_bucket"):
        assert value(gateway, name, route=GENERATIONS, le="300.0") >= 1


def test_limits_tell_whom_they_refused(used):
    gateway, _ = used
    made = servers.glm_gateway("keys", "create", "--name", "none", "--images-per-day", "0", env=gateway.env)
    status, _, content = gateway.post({"prompt": "too much"}, key=made.stdout.strip())
    assert (status, b"insufficient_quota" in content) == (429, True)
    assert value(gateway, "quota_refusals_total", limit="images_per_day") == 1


def test_what_is_under_way_is_shown(used):
    gateway, upstream = used
    upstream.fault("slow", seconds=3, times=1)
    with ThreadPoolExecutor() as clients:
        answer = clients.submit(gateway.post, {"prompt": "slow"})
        wait_until(lambda: value(gateway, "reservations_open") == 1, what="the reservation")
        assert value(gateway, "requests_in_flight") == 2  # with this one
        assert answer.result()[0] == 200
    wait_until(lambda: value(gateway, "reservations_open") == 0, what="its end")
    assert value(gateway, "requests_in_flight") == 1


def test_parts_are_shown(used):
    gateway, _ = used
    wait_until(lambda: value(gateway, "part_up", part="redis") == 1, what="the first look at the parts")
    assert {part: value(gateway, "part_up", part=part) for part in ("sql", "store", "upstreams")} == dict.fromkeys(
        ("sql", "store", "upstreams"), 1
    )
    assert value(gateway, "ledger_lag_seconds") == pytest.approx(0, abs=5)


def test_upstreams_that_were_never_left_alone_are_shown_too(used):
    gateway, _ = used
    wait_until(lambda: "glm_gateway_upstream_parked" in str(samples(gateway)), what="the first look")
    shown = {name: left for name, left in samples(gateway).items() if name[0] == "glm_gateway_upstream_parked"}
    assert ("model", "glm-image") in {label for _, *labels in shown for label in labels}
    assert set(shown.values()) == {0}


def test_promtool_has_nothing_to_say(used):
    gateway, _ = used
    _, _, content = gateway.get("/metrics")
    checked = subprocess.run([tool("promtool"), "check", "metrics"], input=content, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")


def test_metrics_may_have_a_port_of_their_own(tmp_path, simulator):
    port = free_port()
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_METRICS__PORT=str(port)) as gateway:
        assert gateway.get("/metrics")[0] == 404
        status, _, content = http("GET", f"http://127.0.0.1:{port}/metrics")
        assert status == 200
        assert re.search(rb"^glm_gateway_build_info{", content, re.MULTILINE)
        refused = servers.glm_gateway("serve", "--port", "0", env={**gateway.env, "PORT": "0"})
        assert refused.returncode == 1
        assert f"metrics.port: port {port}" in refused.stderr
