"""How often a request asks Redis: what design.md section 3 allows, counted by the server itself."""

import pytest
import redis

from tests import servers
from tests.bench.stage import UNKNOWN_KEY

TIMES, BESIDE = 300, 30  # requests, and scripts of the background meanwhile
BODY = {"prompt": "a red fox in the snow", "response_format": "url"}


@pytest.fixture(scope="module")
def running(tmp_path_factory, shared_simulator):
    folder = tmp_path_factory.mktemp("round-trips")
    env = {"GLM_GATEWAY_CACHE__SCOPE": "project", "GLM_GATEWAY_STORE__URLS": "upstream"}
    with (
        servers.redis_server(folder) as (url, _),
        servers.gateway(folder, shared_simulator, REDIS_URL=url, **env) as one,
    ):
        assert one.post(BODY)[0] == 200
        yield one


@pytest.fixture
def scripts(running):
    """The number of scripts that Redis has run so far."""
    with redis.Redis.from_url(running.env["REDIS_URL"]) as store:
        yield lambda: store.info("commandstats")["cmdstat_evalsha"]["calls"]


def test_a_remembered_picture_takes_one(running, scripts):
    before = scripts()
    assert {running.post(BODY)[1]["x-glm-cache"] for _ in range(TIMES)} == {"HIT"}
    assert TIMES <= scripts() - before <= TIMES + BESIDE


def test_a_key_that_is_known_to_be_none_takes_none(running, scripts):
    before = scripts()
    assert {running.post(BODY, key=UNKNOWN_KEY)[0] for _ in range(TIMES)} == {401}
    assert scripts() - before <= BESIDE
