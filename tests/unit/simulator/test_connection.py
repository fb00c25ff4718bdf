"""What only a real connection shows: answers that break, never come, or come when nobody waits."""

import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gateway.simulator import SimulatorOptions
from tests.unit.simulator.serving import ASYNC, BEARER, OTHER_KEY, SYNC, a_body, serve, until


@pytest.fixture(scope="module")
def address():
    with serve(SimulatorOptions(latency=0.0)) as address:
        yield address


def a_client(address) -> httpx.Client:
    return httpx.Client(base_url=address, headers=BEARER, trust_env=False, timeout=5)


@pytest.fixture
def client(address):
    with a_client(address) as client:
        client.post("/_simulator/reset")
        yield client


def images(client) -> int:
    return client.get("/_simulator/stats").json()["images"]


def test_a_picture_arrives_over_a_real_connection(client):
    url = client.post(SYNC, json=a_body()).json()["data"][0]["url"]
    assert url.startswith(str(client.base_url))
    assert httpx.get(url, trust_env=False).content.startswith(b"\x89PNG")


@pytest.mark.parametrize("path", [SYNC, ASYNC])
@pytest.mark.parametrize("after", [True, False])
def test_the_connection_may_end_before_the_answer(client, path, after):
    client.post("/_simulator/faults", json={"kind": "cut", "after": after, "times": 1})
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        client.post(path, json=a_body())
    until(lambda: images(client) == int(after))
    until(lambda: client.get("/_simulator/stats").json()["in_flight"] == 0)
    assert client.post(SYNC, json=a_body()).status_code == 200


def test_the_answer_may_break_off(client):
    client.post("/_simulator/faults", json={"kind": "truncated_json", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        client.post(SYNC, json=a_body())
    assert images(client) == 1


@pytest.mark.parametrize("after", [True, False])
def test_the_answer_may_never_come(client, after):
    client.post("/_simulator/faults", json={"kind": "hang", "after": after, "times": 1})
    with pytest.raises(httpx.ReadTimeout):
        client.post(SYNC, json=a_body(), timeout=0.3)
    until(lambda: images(client) == int(after))
    assert client.post(SYNC, json=a_body()).status_code == 200


def test_the_picture_may_break_off(client):
    url = client.post(SYNC, json=a_body()).json()["data"][0]["url"]
    client.post("/_simulator/faults", json={"kind": "cdn_cut", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        client.get(url)
    assert client.get(url).status_code == 200


def test_forty_megabytes_are_made_as_they_are_read(client):
    url = client.post(SYNC, json=a_body()).json()["data"][0]["url"]
    client.post("/_simulator/faults", json={"kind": "oversize", "times": 1})
    with client.stream("GET", url) as response:
        assert int(response.headers["content-length"]) > 40_000_000
        assert next(response.iter_raw()).startswith(b"\x89PNG")
    assert client.get("/_simulator/stats").status_code == 200


def test_no_content_type_is_added_by_the_server(client):
    url = client.post(SYNC, json=a_body()).json()["data"][0]["url"]
    client.post("/_simulator/faults", json={"kind": "no_content_type", "times": 1})
    assert "content-type" not in client.get(url).headers


def test_a_picture_is_finished_when_its_caller_has_gone(client):
    client.post("/_simulator/faults", json={"kind": "slow", "seconds": 1.0})
    with pytest.raises(httpx.ReadTimeout):
        client.post(SYNC, json=a_body(), timeout=0.1)
    assert client.get("/_simulator/stats").json()["in_flight"] == 1
    assert client.post(SYNC, json=a_body()).json()["error"]["code"] == "1302"
    until(lambda: images(client) == 1)
    (picture,) = client.get("/_simulator/images").json()
    assert client.get(picture["url"]).status_code == 200


def test_a_connection_is_used_again(client):
    host, port = client.base_url.host, client.base_url.port
    request = f"GET /_simulator/stats HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    with socket.create_connection((host, port), timeout=5) as connection:
        for _ in range(2):
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")


def at_once(client, bodies, headers=None) -> list[int]:
    """The statuses of calls that are all sent before the first is answered."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        return sorted(pool.map(lambda body: client.post(SYNC, json=body, headers=headers).status_code, bodies))


def test_a_key_has_as_many_slots_as_the_option_says():
    with serve(SimulatorOptions(latency=0.5, concurrency=3)) as address, a_client(address) as client:
        assert at_once(client, [a_body(size="512x512")] * 5) == [200, 200, 200, 429, 429]
        stats = client.get("/_simulator/stats").json()
        assert stats == {"calls": 5, "images": 3, "in_flight": 0, "max_in_flight": 3}
        assert client.post(SYNC, json=a_body()).status_code == 200


def test_slots_are_per_key_and_model(client):
    client.post("/_simulator/faults", json={"kind": "slow", "seconds": 0.5})
    with ThreadPoolExecutor(1) as pool:
        other = {"Authorization": f"Bearer {OTHER_KEY}"}
        others = pool.submit(at_once, client, [a_body(), a_body()], other)
        mine = at_once(client, [a_body(), a_body(model="cogview-4"), a_body(model="cogview-4")])
        assert (mine, others.result()) == ([200, 200, 429], [200, 429])
