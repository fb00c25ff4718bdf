"""Several accounts and keys: what one cannot do another does, and no client sees it."""

from collections import Counter

from tests import servers
from tests.fleet import at_once, fleet
from tests.servers import answers, wait_until

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
