"""Several accounts and keys: what one cannot do another does, and no client sees it."""

import json
from collections import Counter

from tests import servers
from tests.fleet import at_once, fleet
from tests.servers import answers, http, wait_until

SMALL = "512x512"


def key_id(number):
    return f"{number}" * 32


def keys(*numbers):
    return ",".join(f"{key_id(number)}.SimulatorKey1234" for number in numbers)


def asked(simulator):
    """How often each key was used."""
    return Counter(call["headers"]["authorization"] for call in simulator.calls())


def test_accounts_that_cannot_make_pictures_are_asked_once_and_no_client_sees_it(tmp_path):
    """1 has no balance, and 2 is no key (any more); 3 works. Then 1 and 2 are replaced by 5 and 4."""
    with (
        servers.simulator(tmp_path, latency=0.02, concurrency=1) as upstream,
        fleet(tmp_path, upstream, 2, ZHIPUAI_API_KEY=keys(1, 2, 3), ZHIPUAI_CONCURRENCY="1") as running,
    ):

        def send(number):
            gateway = running.gateways[number % 2]
            return gateway.post({"prompt": f"pool {number}", "size": SMALL})[0]

        upstream.fault("no_balance", key_id=key_id(1))
        upstream.fault("wrong_key", key_id=key_id(2))
        assert at_once(12, send) == [200] * 12
        assert asked(upstream) == {key_id(1): 1, key_id(2): 1, key_id(3): 12}

        changed, _ = running.gateways
        assert changed.process.stop() == 0
        changed.process.env["ZHIPUAI_API_KEY"] = keys(5, 4, 3)
        changed.process.start()
        wait_until(lambda: answers(f"{changed.url}/readyz"), what="the replica with other keys")
        assert at_once(12, send) == [200] * 12
        used = asked(upstream)
        assert used[key_id(4)] > 0
        assert used[key_id(5)] > 0
        assert (used[key_id(1)], used[key_id(2)]) == (1, 1)


UPSTREAM = """
[[upstreams]]
name = "{name}"
api_key = "{key}"
base_url = "{base_url}"
concurrency = 2
"""


def test_an_account_that_cannot_be_reached_is_left_alone_for_a_while_and_no_client_sees_it(tmp_path):
    with servers.simulator(tmp_path, latency=0.02, concurrency=2) as upstream:
        gone = f"http://127.0.0.1:{servers.free_port()}/api/paas/v4"
        accounts = {"gone": (keys(1), gone), "there": (keys(2), upstream.base_url)}
        config = tmp_path / "gateway.toml"
        config.write_text(
            "".join(UPSTREAM.format(name=name, key=key, base_url=at) for name, (key, at) in accounts.items()), "utf-8"
        )
        with fleet(tmp_path, upstream, 2, GLM_GATEWAY_CONFIG=str(config), ZHIPUAI_API_KEY="") as running:

            def send(number):
                gateway = running.gateways[number % 2]
                return gateway.post({"prompt": f"pool {number}", "size": SMALL})[0]

            assert at_once(24, send) == [200] * 24
            assert asked(upstream) == {key_id(2): 24}
            failed = [gateway.process.output().count("upstream_call_failed") for gateway in running.gateways]
            assert 1 <= sum(failed) <= 2  # as many as were sent before the first of them had failed
            for gateway in running.gateways:
                parked = json.loads(http("GET", f"{gateway.url}/readyz")[2])["parked"]
                assert [(one["upstream"], one["code"]) for one in parked] == [("gone", "unreachable")]
