"""Traces as a collector receives them."""

import json
import re
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests import servers
from tests.collector import collecting
from tests.servers import ROOT, wait_until

SERVED = "POST /v1/images/generations"
CALL = "generate_content glm-image"
WAY = {
    SERVED,
    "EVALSHA reserve",
    "picture",
    "wait for a slot",
    CALL,
    "fetch picture",
    "store picture",
    "EVALSHA settle",
}
PARENT = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
TRACEPARENT = f"00-{PARENT[0]}-{PARENT[1]}-01"
CLIENT, SERVER = 3, 2  # kinds of spans in OTLP
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@contextmanager
def traced(folder, **env):
    """A gateway, its upstream and the collector of its traces."""
    with servers.simulator(folder, latency=0.3) as upstream, collecting() as collector:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "GLM_GATEWAY_CACHE__SCOPE": "project", **SOON, **env}
        with servers.gateway(folder, upstream, **told) as gateway:
            yield gateway, upstream, collector


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    with traced(tmp_path_factory.mktemp("tracing")) as parts:
        yield parts


def served(collector, headers):
    """Wait for the server span of an answer."""
    wait_until(lambda: collector.served(headers["x-request-id"]), what="the server span")
    return collector.served(headers["x-request-id"])


def whole(collector, headers, names):
    """Wait until a trace has spans of these names; gives them by name."""
    root = served(collector, headers)
    wait_until(lambda: names <= {span.name for span in collector.trace(root.trace)}, what=str(names))
    return {span.name: span for span in collector.trace(root.trace)}


def test_a_generation_is_one_tree(used):
    gateway, _, collector = used
    prompt = "canary-prompt-5e1f a fox"
    status, headers, _ = gateway.post({"prompt": prompt})
    assert status == 200
    spans = whole(collector, headers, WAY)
    root, call = spans[SERVED], spans[CALL]
    ids = {span.id for span in collector.trace(root.trace)}
    assert root.parent == ""
    assert all(span.parent in ids for span in collector.trace(root.trace) if span is not root)
    assert spans["picture"].parent == root.id
    assert {spans[name].parent for name in (CALL, "wait for a slot", "fetch picture", "store picture")} == {
        spans["picture"].id
    }
    steps = [spans[name] for name in ("EVALSHA reserve", "wait for a slot", CALL, "fetch picture")]
    assert [span.start for span in steps] == sorted(span.start for span in steps)
    assert root.start <= call.start < call.end <= root.end
    assert (root.kind, call.kind, spans["EVALSHA reserve"].kind) == (SERVER, CLIENT, CLIENT)
    assert prompt.encode() not in collector.received
    assert gateway.key.encode() not in collector.received


def test_spans_speak_the_conventions(used):
    gateway, upstream, collector = used
    status, headers, _ = gateway.post({"prompt": "a model fox"})
    assert status == 200
    spans = whole(collector, headers, WAY)
    port = int(upstream.url.rpartition(":")[2])
    [image] = [one for one in upstream.images() if one["prompt"] == "a model fox"]
    assert spans[CALL].words == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "zhipu",
        "gen_ai.request.model": "glm-image",
        "gen_ai.response.model": "glm-image",
        "gen_ai.response.id": image["id"],
        "gen_ai.output.type": "image",
        "glm_gateway.account": "zhipuai-1",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    assert spans[SERVED].words == {
        "http.request.method": "POST",
        "http.route": "/v1/images/generations",
        "http.response.status_code": 200,
        "url.path": "/v1/images/generations",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "gen_ai.request.model": "glm-image",
        "gen_ai.output.type": "image",
        "glm_gateway.cache": "MISS",
        "glm_gateway.pictures": 1,
        "glm_gateway.request_id": headers["x-request-id"],
    }
    told = spans["EVALSHA reserve"].words
    assert (told["db.system.name"], told["db.operation.name"]) == ("redis", "EVALSHA")
    resource = collector.resources[-1]
    assert resource["service.name"] == "glm-image-gateway"
    assert resource["service.version"]
    assert resource["service.instance.id"]


def test_the_client_s_trace_goes_on_upstream(used):
    gateway, upstream, collector = used
    status, headers, _ = gateway.post({"prompt": "a fox on its way"}, traceparent=TRACEPARENT)
    assert status == 200
    spans = whole(collector, headers, WAY)
    assert (spans[SERVED].trace, spans[SERVED].parent) == PARENT
    [call] = [one for one in upstream.calls() if one["body"]["prompt"] == "a fox on its way"]
    assert call["headers"]["traceparent"] == f"00-{PARENT[0]}-{spans[CALL].id}-01"


@pytest.mark.parametrize("header", ["nonsense", f"00-{'0' * 32}-{'0' * 16}-01", "ff-" + TRACEPARENT[3:]])
def test_a_broken_traceparent_is_as_good_as_none(used, header):
    gateway, _, collector = used
    status, headers, _ = gateway.post({}, traceparent=header)
    assert status == 400
    assert served(collector, headers).parent == ""


def test_a_remembered_picture_has_no_call(used):
    gateway, _, collector = used
    assert gateway.post({"prompt": "a fox once more"})[0] == 200
    status, headers, _ = gateway.post({"prompt": "a fox once more"})
    assert status == 200
    root = served(collector, headers)
    assert root.words["glm_gateway.cache"] == "HIT"
    names = {span.name for span in collector.trace(root.trace)}
    assert {"EVALSHA reserve", "open picture"} <= names
    assert not names & {CALL, "fetch picture", "wait for a slot"}


def test_a_joined_request_names_the_picture_that_it_waits_for(used):
    gateway, upstream, collector = used
    upstream.fault("slow", seconds=2, times=1)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(gateway.post, {"prompt": "one fox for two"})
        wait_until(lambda: any(one["body"]["prompt"] == "one fox for two" for one in upstream.calls()), what="the call")
        _, joined, _ = gateway.post({"prompt": "one fox for two"})
        _, led, _ = first.result()
    leader = whole(collector, led, WAY)
    follower = whole(collector, joined, {"wait for another request's picture"})
    assert follower[SERVED].words["glm_gateway.cache"] == "COALESCED"
    waiting = follower["wait for another request's picture"]
    assert waiting.words["glm_gateway.job"] == led["x-request-id"]
    assert waiting.links == [(leader["picture"].trace, leader["picture"].id)]


def test_refusals_say_why(used):
    gateway, upstream, collector = used
    status, headers, _ = gateway.post({"prompt": "x"}, key="sk-glm-wrong")
    refused = served(collector, headers)
    assert (status, refused.failed) == (401, False)  # the client's fault, and none of the server's
    assert refused.words["http.response.status_code"] == 401
    assert refused.words["error.type"] == "invalid_api_key"
    assert "glm_gateway.cache" not in refused.words
    upstream.fault("moderation", times=1)
    status, headers, _ = gateway.post({"prompt": "a refused fox"})
    assert status == 400
    spans = whole(collector, headers, {SERVED, "picture", CALL})
    assert (spans[CALL].failed, spans[CALL].words["error.type"]) == (True, "content")
    assert spans["picture"].failed
    status, headers, _ = servers.http("GET", f"{gateway.url}/{gateway.key}")
    assert (status, served(collector, headers).name) == (404, "GET")
    assert gateway.key.encode() not in collector.received


def test_a_stream_is_one_tree(used):
    gateway, _, collector = used
    status, headers, content = gateway.post({"prompt": "a fox in a stream", "stream": True})
    assert status == 200
    assert b"image_generation.completed" in content
    spans = whole(collector, headers, WAY | {"open picture"})
    assert spans["open picture"].start < spans[SERVED].end
    assert {span.trace for span in spans.values()} == {spans[SERVED].trace}


def test_each_of_several_pictures_has_its_own_branch(used):
    gateway, _, collector = used
    status, headers, _ = gateway.post({"prompt": "foxes", "n": 3})
    assert status == 200
    root = served(collector, headers)
    wait_until(lambda: len([s for s in collector.trace(root.trace) if s.name == "store picture"]) == 3, what="pictures")
    branches = [span for span in collector.trace(root.trace) if span.name == "picture"]
    assert sorted(span.words["glm_gateway.position"] for span in branches) == [0, 1, 2]
    calls = [span.parent for span in collector.trace(root.trace) if span.name == CALL]
    assert sorted(calls) == sorted(span.id for span in branches)


def test_a_job_that_outlives_its_client_stays_in_the_trace(used):
    gateway, upstream, collector = used
    upstream.fault("slow", seconds=3, times=1)
    trace_id = "a" * 32
    with pytest.raises(OSError, match="timed out"):
        gateway.post({"prompt": "a lonely fox"}, timeout=1, traceparent=f"00-{trace_id}-{PARENT[1]}-01")
    wait_until(lambda: {SERVED, CALL, "store picture", "EVALSHA settle"} <= {s.name for s in collector.trace(trace_id)})
    spans = {span.name: span for span in collector.trace(trace_id)}
    assert spans[SERVED].words["http.response.status_code"] == 499
    assert spans["store picture"].start > spans[SERVED].end


def test_probes_and_work_that_nobody_asked_for_have_no_spans(used):
    gateway, _, collector = used
    _, headers, _ = gateway.post({"prompt": "x"}, key="sk-glm-wrong")
    for path in ("/healthz", "/readyz", "/metrics"):
        assert gateway.get(path)[0] == 200
    time.sleep(2.5)  # the work of every second comes by
    served(collector, headers)
    roots = {span.name for span in collector.spans if not span.parent}
    assert {name.partition(" ")[0] for name in roots} <= {"GET", "POST"}
    assert not any("z" in name or "metrics" in name for name in roots)


def test_lines_of_the_log_name_the_trace(used):
    gateway, upstream, _ = used
    upstream.fault("moderation", times=1)
    trace_id = "b" * 32
    _, headers, _ = gateway.post({"prompt": "a fox refused"}, traceparent=f"00-{trace_id}-{PARENT[1]}-01")

    def events():
        lines = [json.loads(line) for line in gateway.process.output().splitlines() if line.startswith("{")]
        return {line["event"]: line["trace_id"] for line in lines if line.get("request_id") == headers["x-request-id"]}

    wait_until(lambda: events() == {"upstream_call_failed": trace_id, "request": trace_id}, what="the lines")


def test_what_the_operator_says_counts(tmp_path):
    env = {
        "GLM_GATEWAY_TRACING__PROPAGATE": "false",
        "GLM_GATEWAY_METRICS__BY": "key",
        "OTEL_SERVICE_NAME": "pictures",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    with traced(tmp_path, **env) as (gateway, _, collector):
        status, headers, _ = gateway.post({"prompt": "a quiet fox"}, traceparent=TRACEPARENT)
        assert status == 200
        root = served(collector, headers)
    assert root.words["glm_gateway.project"] == "proj_default"
    assert len(root.words["glm_gateway.key"]) == 12
    assert collector.resources[-1]["service.name"] == "pictures"
    assert collector.resources[-1]["deployment.environment.name"] == "test"


def test_a_trace_stays_here_when_the_operator_says_so(tmp_path):
    with traced(tmp_path, GLM_GATEWAY_TRACING__PROPAGATE="false") as (gateway, upstream, _):
        assert gateway.post({"prompt": "a quiet fox"}, traceparent=TRACEPARENT)[0] == 200
        assert not any("traceparent" in call["headers"] for call in upstream.calls())


def test_what_is_open_at_a_stop_is_sent(tmp_path, simulator):
    with collecting() as collector:
        told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        with servers.gateway(tmp_path, simulator, **told) as gateway:
            assert gateway.post({"prompt": "a last fox"})[0] == 200
            assert collector.spans == []
        assert {span.name for span in collector.spans} >= WAY


@pytest.mark.parametrize("listening", [True, False], ids=["stands still", "is not there"])
def test_a_collector_that_does_not_answer_holds_up_nothing(tmp_path, simulator, listening):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if listening:
            deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with servers.gateway(tmp_path, simulator, OTEL_EXPORTER_OTLP_ENDPOINT=url, **SOON) as gateway:
            for _ in range(20):
                assert gateway.post({"prompt": "a patient fox"}, timeout=10)[0] == 200
            began = time.monotonic()
            assert gateway.process.stop(seconds=30) == 0
            assert time.monotonic() - began < 15


def test_nothing_of_it_is_there_when_it_is_off(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, PYTHONPROFILEIMPORTTIME="1") as gateway:
        assert gateway.post({"prompt": "a fox"})[0] == 200
        output = gateway.process.output()
    assert re.search(r"import time:.*\| +gateway\.wiring", output)
    # redis-py looks for the SDK's metrics by itself, so that more than these cannot be asked for where the extra is.
    ours = r"gateway\.adapters\.tracing\.(spans|ports)|opentelemetry\.(exporter|sdk\.trace)|google\.protobuf|requests"
    assert not re.search(rf"import time:.*\| +({ours})\b", output)


def test_without_the_extra_it_says_how_to_install_it(tmp_path):
    env = servers.environment(
        GLM_GATEWAY_DATA_DIR=str(tmp_path),
        PORT=str(servers.free_port()),
        ZHIPUAI_API_KEY=servers.UPSTREAM_KEY,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318",
    )
    lines = [
        "import sys",
        "sys.modules['opentelemetry'] = None",
        "sys.argv[1:] = ['serve']",
        "from gateway.__main__ import main",
        "main()",
    ]
    command = [sys.executable, "-c", "; ".join(lines)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "pip install 'glm-image-gateway[otel]'" in done.stderr
    assert "Traceback" not in done.stderr
