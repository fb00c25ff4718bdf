"""What a gateway has under way, by which replicas are added and removed."""

import re
from concurrent.futures import ThreadPoolExecutor

from tests import servers
from tests.servers import http, wait_until


def in_flight(gateway):
    metrics = http("GET", f"{gateway.url}/metrics")[2].decode()
    return float(re.search(r"^glm_gateway_jobs_in_flight (\S+)$", metrics, re.MULTILINE)[1])


def test_jobs_count_while_they_wait_and_while_they_are_made(tmp_path):
    """With one slot the second request waits: it takes room in the replica all the same."""
    with (
        servers.simulator(tmp_path, latency=1.0) as upstream,
        servers.gateway(tmp_path, upstream, ZHIPUAI_CONCURRENCY="1") as gateway,
        ThreadPoolExecutor() as clients,
    ):
        assert in_flight(gateway) == 0
        answers = [clients.submit(gateway.post, {"prompt": f"a fox {number}"}) for number in range(2)]
        wait_until(lambda: in_flight(gateway) == 2, what="two jobs under way")
        assert [answer.result()[0] for answer in answers] == [200, 200]
        wait_until(lambda: in_flight(gateway) == 0, what="no job under way")
