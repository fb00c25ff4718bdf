"""What a gateway writes on its standard error, and what it never writes there."""

import json
import re

import pytest

from tests import servers
from tests.servers import http, wait_until

PROMPT = "canary-prompt-7c1e a fox"


def spoken(gateway):
    """The lines of a gateway's output that are JSON."""
    return [json.loads(line) for line in gateway.process.output().splitlines() if line.startswith("{")]


def requests(gateway):
    return [line for line in spoken(gateway) if line["event"] == "request"]


def used(folder, **env):
    """Let a gateway do everything in which a secret is: give its output, the key and the signature."""
    with servers.simulator(folder) as upstream, servers.gateway(folder, upstream, **env) as gateway:
        upstream.fault("moderation", times=1)
        assert gateway.post({"prompt": PROMPT})[0] == 400
        status, _, content = gateway.post({"prompt": PROMPT, "user": "canary-user", "response_format": "url"})
        assert status == 200
        url = json.loads(content)["data"][0]["url"]
        assert http("GET", url)[0] == 200
        assert http("GET", url.replace("signature=", "signature=0"))[0] == 403
        assert http("GET", f"{gateway.url}/{gateway.key}")[0] == 404
        wait_until(lambda: len(requests(gateway)) >= 5, what="the lines")
    [signature] = re.findall(r"signature=([\w-]+)", url)
    return gateway.process.output(), gateway.key, signature


@pytest.mark.parametrize("level", ["debug", "info"])
def test_prompts_keys_and_signatures_are_never_written(tmp_path, level):
    output, *secrets = used(tmp_path, LOG_LEVEL=level, GLM_GATEWAY_LEDGER__PROMPTS="true")
    found = [secret for secret in (PROMPT, servers.UPSTREAM_KEY, "canary", *secrets) if secret in output]
    assert found == []
    assert servers.leaks(output) == []


def test_with_redaction_off_the_same_search_finds_them(tmp_path):
    output, key, signature = used(tmp_path, LOG_LEVEL="debug", GLM_GATEWAY_LOG__REDACT="false")
    assert all(secret in output for secret in (PROMPT, key, signature))
    assert servers.leaks(output) != []


def test_every_request_has_one_line(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_CACHE__SCOPE="key") as gateway:
        _, headers, _ = gateway.post({"prompt": "a fox", "n": 2})
        assert gateway.post({"prompt": "a fox"}, key="sk-glm-wrong")[0] == 401
        assert gateway.get("/healthz")[0] == 200
        wait_until(lambda: {"/healthz"} <= {line["path"] for line in requests(gateway)}, what="the lines")
        [made, refused] = [line for line in requests(gateway) if line["path"] == "/v1/images/generations"]
    assert made["request_id"] == headers["x-request-id"]
    told = {name: made[name] for name in ("method", "status", "model", "pictures", "cache", "project", "address")}
    assert told == {
        "method": "POST",
        "status": 200,
        "model": "glm-image",
        "pictures": 2,
        "cache": "MISS",
        "project": "proj_default",
        "address": "127.0.0.1",
    }
    assert 0 <= made["own_ms"] < made["ms"]
    assert (refused["status"], refused["code"]) == (401, "invalid_api_key")
    assert "project" not in refused


def test_lines_for_people(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_LOG__FORMAT="text") as gateway:
        assert gateway.post({"prompt": "a fox"})[0] == 200
        line = r"(?m)^\S+ POST /v1/images/generations 200 ms=\S+ own_ms=\S+ model=glm-image pictures=1 cache=BYPASS "
        wait_until(lambda: re.search(line, gateway.process.output()), what="the line")


def test_no_lines_where_they_are_not_wanted(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_LOG__ACCESS="false") as gateway:
        assert gateway.post({"prompt": "a fox"})[0] == 200
    assert requests(gateway) == []
