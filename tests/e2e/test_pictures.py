"""Pictures outlive restarts, are the same on every replica, need little memory; none is paid that cannot be kept."""

import asyncio
import json
import os
import threading
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256

import httpx
import psutil
import pytest
import redis

from gateway.adapters.redis.embedded import EmbeddedServer
from tests import servers
from tests.s3_server import s3_server

SMALL = "512x512"
URL = {"prompt": "a fox", "size": SMALL, "response_format": "url"}
INLINE = {"prompt": "a fox", "size": SMALL, "response_format": "b64_json"}


def made(simulator):
    return [picture["sha256"] for picture in simulator.images()]


def url_in(answer):
    status, _, content = answer
    assert status == 200, content
    return json.loads(content)["data"][0]["url"]


def digest_behind(url):
    status, _, content = servers.http("GET", url)
    assert status == 200, content
    return sha256(content).hexdigest()


def files_in(folder):
    """Pictures and downloads, without what the store writes to see whether it can."""
    found = [path for path in folder.rglob("*") if path.name not in {"lock", "probe"} and path.is_file()]
    return [path for path in found if path.parent.name != "staging"]


def at(gateway, url):
    """The same URL on another replica."""
    return gateway.url + url[url.index("/v1/images/files/") :]


# Memory


class Watched:
    """The memory of a process, looked at every 50 ms while the block runs; megabytes."""

    def __init__(self, pid):
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self.idle = self.peak = self._now()

    def __enter__(self):
        self._watcher.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._watcher.join()

    def _watch(self):
        while not self._stop.wait(0.05):
            self.peak = max(self.peak, self._now())

    def _now(self):
        return self._process.memory_info().rss / 2**20


async def all_at_once(gateway, body, number):
    """Send so many requests for different pictures at once, and give the length of each answer."""

    async def one(client, name):
        headers = {"Authorization": f"Bearer {gateway.key}"}
        async with client.stream(
            "POST",
            f"{gateway.base_url}/images/generations",
            json=body | {"prompt": f"{body['prompt']} {name}"},
            headers=headers,
        ) as answer:
            length = sum([len(piece) async for piece in answer.aiter_raw()])
            return answer.status_code, length

    async with httpx.AsyncClient(timeout=100, trust_env=False, limits=httpx.Limits(max_connections=number)) as client:
        return await asyncio.gather(*(one(client, name) for name in range(number)))


@pytest.mark.parametrize("asked", [{}, {"stream": True}], ids=["json", "events"])
def test_64_answers_of_2_mb_pictures_in_base64_need_less_than_64_mb(tmp_path, simulator, asked):
    simulator.fault("heavy", size=2_000_000)
    with servers.gateway(tmp_path, simulator, ZHIPUAI_CONCURRENCY="64") as gateway:
        assert gateway.post(INLINE)[0] == 200
        with Watched(gateway.process.popen.pid) as memory:
            answers = asyncio.run(all_at_once(gateway, INLINE | asked, 64))
    assert {status for status, _ in answers} == {200}
    assert min(length for _, length in answers) > 2_000_000 * 4 / 3
    assert memory.peak - memory.idle < 64


async def hit(gateway, times, callers=16):
    """Ask for a remembered picture again and again, several callers at once."""

    async def call(client, calls):
        for _ in range(calls):
            answer = await client.post(f"{gateway.base_url}/images/generations", json=URL)
            assert answer.headers["x-glm-cache"] == "HIT"

    headers = {"Authorization": f"Bearer {gateway.key}"}
    async with httpx.AsyncClient(timeout=100, trust_env=False, headers=headers) as client:
        await asyncio.gather(*(call(client, times // callers) for _ in range(callers)))


@pytest.mark.timeout(300)
def test_ten_thousand_hits_leave_the_memory_where_it_was(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_CACHE__SCOPE="project") as gateway:
        assert gateway.post(URL)[0] == 200
        asyncio.run(hit(gateway, 1_000))
        with Watched(gateway.process.popen.pid) as memory:
            asyncio.run(hit(gateway, 10_000))
        assert memory.peak - memory.idle < 16


# Where they are, and for how long


def test_pictures_are_in_the_store_and_neither_in_redis_nor_sql_nor_the_log(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_CACHE__SCOPE="project") as gateway:
        for body in (INLINE, URL, INLINE | {"stream": True, "output_format": "webp"}):
            assert gateway.post(body)[0] == 200
        [digest] = made(simulator)
    files = {path: path.read_bytes() for path in gateway.data_dir.rglob("*") if path.is_file()}
    files[gateway.process.log] = gateway.process.log.read_bytes()
    marks = (b"\x89PNG", b"iVBORw0KGgo", b"WEBPVP8")
    holding = {path for path, content in files.items() if any(mark in content for mark in marks)}
    assert {path.suffix for path in holding} == {"", ".webp"}
    assert {path.relative_to(gateway.data_dir).parts[0] for path in holding} == {"store"}
    assert any(digest.encode() in content for content in files.values())  # Redis names it in a file that was looked at


def test_what_was_last_made_longer_ago_than_the_retention_is_removed(tmp_path, simulator):
    folder, day = tmp_path / "pictures" / "ab", 86_400
    folder.mkdir(parents=True)
    for name, days in (("ab" + "0" * 62, 7.1), ("ab" + "1" * 62, 6.9)):
        (folder / name).write_bytes(b"picture")
        os.utime(folder / name, (time.time() - days * day,) * 2)
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_STORE__URL=(tmp_path / "pictures").as_uri()):
        servers.wait_until(lambda: len(list(folder.iterdir())) == 1, what="the removal")
        assert [path.name for path in folder.iterdir()] == ["ab" + "1" * 62]


# Restarts and replicas


def test_a_url_outlives_a_restart(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as gateway:
        url = url_in(gateway.post(URL))
        gateway.process.stop()
        with servers.running(gateway.process, f"{gateway.url}/readyz"):
            assert [digest_behind(url)] == made(simulator)


@contextmanager
def two_replicas(tmp_path, simulator, **env):
    """Two gateways that share a secret and nothing else but what env says."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    env = {"GLM_GATEWAY_SECRET_KEY": "the same secret of both replicas", **env}
    with (
        servers.gateway(tmp_path / "one", simulator, **env) as one,
        servers.gateway(tmp_path / "two", simulator, **env) as two,
    ):
        yield one, two


def check_that_either_serves_what_the_other_made(one, two, simulator):
    url = url_in(one.post(URL | {"output_format": "webp"}))
    assert digest_behind(at(two, url)) == digest_behind(url)
    plain = url_in(two.post(URL))
    assert digest_behind(at(one, plain)) == digest_behind(plain) == made(simulator)[-1]


def test_a_replica_on_the_same_folder_serves_the_same_urls(tmp_path, simulator):
    with two_replicas(tmp_path, simulator, GLM_GATEWAY_STORE__URL=f"file://{tmp_path}/shared") as (one, two):
        check_that_either_serves_what_the_other_made(one, two, simulator)
        assert not files_in(one.data_dir / "store") + files_in(two.data_dir / "store")


def test_replicas_on_s3_serve_the_same_urls(tmp_path, simulator):
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as s3:
        s3.make_bucket("pictures")
        store = {"GLM_GATEWAY_STORE__URL": "s3://pictures/glm", **s3.env}
        with two_replicas(tmp_path, simulator, **store) as (one, two):
            check_that_either_serves_what_the_other_made(one, two, simulator)
            assert not files_in(one.data_dir / "downloads") + files_in(two.data_dir / "downloads")


def test_what_a_killed_gateway_was_downloading_is_removed_at_the_next_start(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as gateway, ThreadPoolExecutor() as pool:
        downloads = gateway.data_dir / "downloads"
        simulator.fault("slow_cdn", seconds=60, times=1)
        asked = pool.submit(gateway.post, INLINE)
        servers.wait_until(lambda: files_in(downloads), what="the download")
        gateway.process.popen.kill()
        gateway.process.popen.wait()
        assert isinstance(asked.exception(), OSError)
        assert files_in(downloads)
        simulator.reset()  # the file is there before the download has reached the CDN, and its fault
        with servers.running(gateway.process, f"{gateway.url}/readyz"):
            assert not files_in(downloads)
            assert gateway.post(INLINE)[0] == 200


# A store that fails


@contextmanager
def broken(folder):
    """A file in the place of the store's folder: nothing can be read or written, not even by root."""
    folder.rename(folder.with_name("away"))
    folder.write_text("not a folder")
    yield
    folder.unlink()
    folder.with_name("away").rename(folder)


@contextmanager
def slow_simulator(tmp_path):
    (tmp_path / "simulator").mkdir()
    with servers.simulator(tmp_path / "simulator", latency=4) as simulator:
        yield simulator


def test_a_store_that_fails_costs_no_picture(tmp_path):
    """What was paid reaches the client that waits; then nothing is paid until the store is back."""
    with slow_simulator(tmp_path) as simulator, servers.gateway(tmp_path, simulator) as gateway:
        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(gateway.post, body) for body in (INLINE, URL, INLINE | {"stream": True})]
            servers.wait_until(lambda: simulator.stats()["in_flight"] == 3, what="three calls")
            with broken(gateway.data_dir / "store"):
                inline, linked, streamed = [answer.result() for answer in asked]
                refused = gateway.post(INLINE)
                ready = gateway.get("/readyz")
                metrics = gateway.get("/metrics")[2].decode()
        check_what_was_paid(simulator, inline, linked, streamed)
        assert refused[0] == ready[0] == 503
        assert json.loads(refused[2])["error"]["code"] == "picture_store_unavailable"
        assert 0 < int(refused[1]["retry-after"]) <= 60
        assert json.loads(ready[2])["parts"]["store"] == "failing"
        assert 'glm_gateway_store_failures_total{operation="put"} 3.0' in metrics
        assert simulator.stats()["calls"] == 3
        servers.wait_until(lambda: servers.answers(f"{gateway.url}/readyz"), what="the store's return")
        assert digest_behind(url_in(gateway.post(URL))) == made(simulator)[-1]


def test_what_a_failing_store_did_not_take_reaches_all_who_wait_and_is_not_paid_again(tmp_path):
    with (
        slow_simulator(tmp_path) as simulator,
        servers.gateway(tmp_path, simulator, GLM_GATEWAY_CACHE__SCOPE="project") as gateway,
        ThreadPoolExecutor() as pool,
    ):
        simulator.fault("slow", seconds=12)
        asked = [pool.submit(gateway.post, INLINE)]
        servers.wait_until(lambda: simulator.stats()["in_flight"] == 1, what="the call")
        asked += [pool.submit(gateway.post, body) for body in (INLINE, URL)]
        servers.wait_until(lambda: under_way(gateway) == 3, what="two who joined")
        with broken(gateway.data_dir / "store"):
            answers = [answer.result() for answer in asked]
        assert [status for status, _, _ in answers] == [200] * 3
        assert {headers["x-glm-cache"] for _, headers, _ in answers[1:]} == {"COALESCED"}
        servers.wait_until(lambda: servers.answers(f"{gateway.url}/readyz"), what="the store's return")
        again = gateway.post(URL)
        assert again[1]["x-glm-cache"] == "HIT"
        assert [digest_behind(url_in(again))] == made(simulator)
        assert files_in(gateway.data_dir / "store")


def under_way(gateway):
    listed = servers.glm_gateway("jobs", "list", "--json", env=gateway.env)
    return len(json.loads(listed.stdout))


def check_what_was_paid(simulator, inline, linked, streamed):
    url = url_in(linked)
    assert url in {picture["url"] for picture in simulator.images()}
    item = json.loads(inline[2])["data"][0]["b64_json"]
    event = json.loads(streamed[2].partition(b"\ndata: ")[2])["b64_json"]
    given = [sha256(b64decode(text)).hexdigest() for text in (item, event)]
    assert sorted([*given, digest_behind(url)]) == sorted(made(simulator))


def test_what_a_failing_store_did_not_take_of_a_client_that_has_left_is_stored_later(tmp_path):
    """It is tried again after 15 s, and then is remembered."""
    with (
        slow_simulator(tmp_path) as simulator,
        servers.gateway(tmp_path, simulator, GLM_GATEWAY_CACHE__SCOPE="project") as gateway,
        ThreadPoolExecutor() as pool,
    ):
        left = pool.submit(gateway.post, URL, timeout=2)
        servers.wait_until(lambda: simulator.stats()["in_flight"] == 1, what="the call")
        with broken(gateway.data_dir / "store"):
            assert isinstance(left.exception(), TimeoutError)
            servers.wait_until(lambda: put_failures(gateway), 30, what="a failed write")
        servers.wait_until(lambda: files_in(gateway.data_dir / "store"), 90, what="the stored picture")
        servers.wait_until(lambda: under_way(gateway) == 0, what="the end of its job")
        servers.wait_until(lambda: servers.answers(f"{gateway.url}/readyz"), what="the store's return")
        again = gateway.post(URL)
        assert again[1]["x-glm-cache"] == "HIT"
        assert [digest_behind(url_in(again))] == made(simulator)


def put_failures(gateway):
    return 'glm_gateway_store_failures_total{operation="put"}' in gateway.get("/metrics")[2].decode()


def test_a_store_that_cannot_be_opened_is_said_at_the_start(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as gateway:
        gateway.process.stop()
        with broken(gateway.data_dir / "store"):
            code = gateway.process.start().popen.wait(60)
    assert code != 0
    assert "The store of pictures cannot be opened (store.url)" in gateway.process.output()


# Settings


def test_the_upstream_s_urls_are_passed_on_and_nothing_is_fetched_for_them(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_STORE__URLS="upstream") as gateway:
        status, headers, content = gateway.post(URL | {"output_format": "webp"})
        assert status == 200
        [picture] = simulator.images()
        body = json.loads(content)
        assert [item["url"] for item in body["data"]] == [picture["url"]]
        assert (body["size"], headers["x-glm-size"], body.get("output_format")) == (SMALL, SMALL, None)
        assert headers["x-glm-changed"] == "output_format"
        assert picture["fetches"] == 0
        assert not files_in(gateway.data_dir / "store")
        inline = json.loads(gateway.post(INLINE)[2])["data"][0]["b64_json"]
        assert sha256(b64decode(inline)).hexdigest() == made(simulator)[-1]


def hours_pass(gateway, hours):
    """Put Redis's own clocks forward; they never run back."""
    with redis.Redis.from_url(EmbeddedServer(gateway.data_dir).url) as store:
        for clock in store.keys("g1:{p*}:clock"):
            store.incrby(clock, round(hours * 3_600_000))


def test_no_url_of_the_upstream_s_is_given_that_may_be_dead_soon(tmp_path, simulator):
    """They were seen to live for 24 hours (glm-image-api.md section 6); the bytes of a stored picture last longer."""
    settings = {"GLM_GATEWAY_STORE__URLS": "upstream", "GLM_GATEWAY_CACHE__SCOPE": "project"}
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_CACHE__LIFETIME="172800", **settings) as gateway:
        first = url_in(gateway.post(URL))
        gateway.post({**INLINE, "prompt": "a hare"})
        hours_pass(gateway, 22.9)
        assert url_in(gateway.post(URL)) == first
        hours_pass(gateway, 0.2)
        assert url_in(gateway.post(URL)) not in {first, ""}
        url_in(gateway.post({**URL, "prompt": "a hare"}))
        assert len(made(simulator)) == 4
        assert gateway.post({**INLINE, "prompt": "a hare"})[1]["x-glm-cache"] == "HIT"
        assert gateway.post(INLINE)[1]["x-glm-cache"] == "HIT"


def test_pages_of_named_origins_may_use_the_gateway(tmp_path, simulator):
    """A browser asks first without a key, and needs its answer on errors as well."""
    page, other = "https://studio.example.com", "https://evil.example.com"
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_SERVER__CORS_ORIGINS=page) as gateway:
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        for origin, allowed in ((page, page), (other, None)):
            url = f"{gateway.base_url}/images/generations"
            _, headers, _ = servers.http("OPTIONS", url, headers={"Origin": origin, **asks})
            assert headers["access-control-allow-origin"] == allowed
            status, headers, _ = servers.http("POST", url, body={"prompt": ""}, headers={"Origin": origin})
            assert (status, headers["access-control-allow-origin"]) == (401, allowed)
        status, headers, _ = gateway.post(URL, Origin=page)
        assert (status, headers["access-control-allow-origin"]) == (200, page)
        assert "x-request-id" in headers["access-control-expose-headers"]
        picture = url_in(gateway.post(URL))
        assert servers.http("GET", picture, headers={"Origin": page})[1]["access-control-allow-origin"] == page


def test_a_url_has_the_operator_s_address_and_ends_in_time(tmp_path, simulator):
    settings = {"GLM_GATEWAY_SERVER__PUBLIC_URL": "https://images.example.com/", "GLM_GATEWAY_STORE__URL_LIFE": "2"}
    with servers.gateway(tmp_path, simulator, **settings) as gateway:
        url = url_in(gateway.post(URL, Idempotency_Key="order 1"))
        assert url.startswith("https://images.example.com/v1/images/files/")
        servers.wait_until(lambda: servers.http("GET", at(gateway, url))[0] != 200, what="the end of the URL")
        status, _, content = servers.http("GET", at(gateway, url))
        assert (status, json.loads(content)["error"]["code"]) == (403, "url_expired")
        repeated = url_in(gateway.post(URL, Idempotency_Key="order 1"))
        assert [digest_behind(at(gateway, repeated))] == made(simulator)  # under a new URL
