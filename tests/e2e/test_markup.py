"""What projects are charged: the catalog's price times their markup, felt at once by all replicas."""

import json
from decimal import Decimal

from tests import servers
from tests.fleet import fleet
from tests.servers import wait_until


def told(running, *words):
    done = servers.glm_gateway("projects", *words, "--json", env=running.env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def costs(running, secret, prompt, **body):
    """What each replica says that a picture costs, each asked for one of its own."""
    said = []
    for number, gateway in enumerate(running.gateways):
        status, headers, _ = gateway.post({"prompt": f"{prompt} {number}", **body}, key=secret)
        assert status == 200
        said.append(headers["x-glm-cost"])
    return said


def test_a_markup_is_in_the_price_and_not_in_the_cost(tmp_path, simulator):
    with fleet(tmp_path, simulator, 2, GLM_GATEWAY_CACHE__SCOPE="project") as running:
        told(running, "create", "--name", "design", "--markup", "1.25")
        key_id, secret = running.key("--project", "design")
        assert costs(running, secret, "one") == ["0.125 CNY"] * 2
        assert costs(running, secret, "one") == ["0.00 CNY"] * 2, "hits"
        assert costs(running, secret, "three", n=3) == ["0.375 CNY"] * 2
        told(running, "limits", "design", "--markup", "2")
        tries = []

        def felt():
            tries.append(costs(running, secret, f"try {len(tries)}"))
            return tries[-1] == ["0.20 CNY"] * 2

        wait_until(felt, what="the news on both replicas")
        spent = Decimal(1) + sum(Decimal(cost.split()[0]) for said in tries for cost in said)
        told(running, "limits", "design", "--spend-per-month", f"{spent + Decimal('0.3')}", "--images-per-minute", "50")
        first, hit = running.gateways[0], {"prompt": "one 0"}
        wait_until(lambda: first.post(hit, key=secret)[1]["x-ratelimit-limit-images"] == "50", what="the limits")
        assert first.post({"prompt": "two", "n": 2}, key=secret)[0] == 429, "0.4 > 0.3"
        assert first.post({"prompt": "two"}, key=secret)[0] == 200
        wait_until(lambda: running.charged(key_id) == 9 + 2 * len(tries), what="the ledger")
        lines = [line for line in running.lines(key_id) if line["pictures_paid"]]
        assert {line["price"] // line["pictures_delivered"] for line in lines} == {125_000, 200_000}
        assert {line["cost"] // line["pictures_paid"] for line in lines} == {100_000}
