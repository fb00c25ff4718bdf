"""What clients and operators are told of limits: amounts, when to come again, what is left, and shadow limits."""

import json

import pytest

from tests import servers


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    with servers.simulator(tmp_path_factory.mktemp("upstream")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, upstream):
    with servers.gateway(tmp_path_factory.mktemp("gateway"), upstream) as running:
        yield running


@pytest.fixture
def new_key(gateway, request):
    def make(*limits):
        made = servers.glm_gateway("keys", "create", "--name", request.node.name[:99], *limits, env=gateway.env)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    return make


def generate(gateway, key, n=1):
    status, headers, content = gateway.post({"prompt": "a fox", "response_format": "url", "n": n}, key=key)
    return status, headers, json.loads(content).get("error", {})


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("limit", ["--requests-per-minute", "--images-per-day", "--concurrent", "--spend-per-month"])
def test_a_limit_that_lets_nothing_pass_is_not_waited_for(gateway, new_key, limit, n):
    status, headers, error = generate(gateway, new_key(limit, "0"), n)
    assert (status, error["code"], headers["x-should-retry"]) == (429, "insufficient_quota", "false")
    assert not {"retry-after", "retry-after-ms"} & set(headers)
    assert "lets no picture pass" in error["message"]


def test_money_is_said_to_the_last_digit(gateway, new_key):
    key = new_key("--spend-per-month", "0.105")
    assert generate(gateway, key)[0] == 200
    assert "limit 0.105 CNY, used 0.10 CNY" in generate(gateway, key)[2]["message"]


@pytest.mark.parametrize(
    ("fault", "status", "left"),
    [("moderation", 400, 5), ("cut", 504, 5), ("not_an_image", 502, 3), ("no_balance", 503, 5)],
)
def test_a_failure_says_what_is_left_as_well(gateway, upstream, new_key, fault, status, left):
    """What is paid and cannot be downloaded yet is not given back: it is tried later."""
    key = new_key("--images-per-day", "5", "--requests-per-minute", "9")
    upstream.fault(fault)
    try:
        failed, headers, _ = generate(gateway, key, n=2)
    finally:
        upstream.reset()
        gateway.unpark()
    assert failed == status
    said = headers["x-ratelimit-remaining-images"], headers["x-ratelimit-remaining-requests"]
    assert said == (str(left), "8")
    _, headers, _ = generate(gateway, key)
    assert headers["x-ratelimit-remaining-images"] == str(left - 1)


def test_what_a_partial_answer_gave_back_is_left(gateway, upstream, new_key):
    key = new_key("--images-per-day", "6")
    upstream.fault("moderation", times=1)
    try:
        status, headers, _ = generate(gateway, key, n=3)
    finally:
        upstream.reset()
    assert (status, headers["x-ratelimit-remaining-images"]) == (200, "4")


def test_shadow_limits_are_told_to_the_operator_only(gateway, new_key):
    key = new_key("--images-per-day", "1", "--shadow")
    answers = [generate(gateway, key) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200] * 3
    assert not [name for _, headers, _ in answers for name in headers if name.startswith("x-ratelimit")]
    metrics = gateway.get("/metrics")[2].decode()
    assert 'glm_gateway_shadow_refusals_total{limit="images_per_day"} 2.0' in metrics
    log = gateway.process.output()
    assert log.count("shadow_limit_reached") == 2
    assert key.removeprefix("sk-glm-")[:12] in log
    assert key not in log
