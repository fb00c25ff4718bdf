"""How often a request asks Redis: what design.md section 3 allows, as the server itself hears it."""

import threading
from contextlib import contextmanager

import pytest
import redis

from gateway.adapters.redis.scripts import script
from tests import servers
from tests.bench.stage import UNKNOWN_KEY

TIMES = 100
BODY = {"prompt": "a red fox in the snow", "response_format": "url"}
END = "ECHO the end"


@pytest.fixture(scope="module")
def running(tmp_path_factory, shared_simulator):
    folder = tmp_path_factory.mktemp("round-trips")
    env = {"GLM_GATEWAY_CACHE__SCOPE": "project", "GLM_GATEWAY_STORE__URLS": "upstream"}
    with (
        servers.redis_server(folder) as (url, _),
        servers.gateway(folder, shared_simulator, REDIS_URL=url, **env) as one,
    ):
        with overheard(one) as scripts:  # its settlement is noted beside the answer, and belongs to no test
            assert one.post(BODY)[0] == 200
            wait_settled(scripts)
        yield one


@contextmanager
def overheard(gateway):
    """Gather the scripts that are sent while the block runs, but for those of the background: these name no job."""
    heard = []
    with redis.Redis.from_url(gateway.env["REDIS_URL"]) as store, store.monitor() as monitor:

        def listen():
            for said in monitor.listen():
                if said["command"] == END:
                    return
                if said["command"].startswith("EVALSHA") and ":reservation:" in said["command"]:
                    heard.append(said["command"].split()[1])
                    if heard[-1] == script("settled").sha:  # whether the store still has what was settled before
                        heard.pop()

        listener = threading.Thread(target=listen)
        listener.start()
        yield heard
        store.echo("the end")
        listener.join()


def wait_settled(scripts):
    servers.wait_until(lambda: script("settle").sha in scripts, what="the settlement")


def test_a_remembered_picture_takes_one_script(running):
    with overheard(running) as scripts:
        assert {running.post(BODY)[1]["x-glm-cache"] for _ in range(TIMES)} == {"HIT"}
    assert scripts == [script("reserve").sha] * TIMES


def test_a_key_that_is_known_to_be_none_takes_none(running):
    with overheard(running) as scripts:
        assert {running.post(BODY, key=UNKNOWN_KEY)[0] for _ in range(TIMES)} == {401}
    assert scripts == []


def test_a_new_picture_takes_four_beside_its_slot(running):
    """Waited for: limits, slot, receipt. Noted beside: that it is sent, and its settlement."""
    names = ["reserve", "mark", "mark", "settle"]
    with overheard(running) as scripts:
        assert running.post({**BODY, "prompt": "a blue fox"})[0] == 200
        wait_settled(scripts)
    assert sorted(scripts) == sorted(script(name).sha for name in names)
