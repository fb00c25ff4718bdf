"""The one connection that most commands take: when it is used, and what becomes of them when it breaks."""

import asyncio
import ssl
import time
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from tests import redis_servers, servers

pytestmark = pytest.mark.anyio
TLS = Path(__file__).parents[2] / "tls"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


async def piped(client):
    """Ask until the pipe is there: it is opened beside the first answers."""
    async with asyncio.timeout(5):
        while client._link is None or client._link.pipe is None:
            await client.call("PING")
    return client._link.pipe


async def test_all_take_one_connection_once_it_is_there(server):
    async with aclosing(RedisClient(server)) as client:
        await piped(client)
        before = (await client.call("INFO", "stats"))["total_connections_received"]
        for number in range(200):
            await asyncio.gather(*(client.call("INCR", f"count-{number}") for _ in range(5)))
        assert (await client.call("INFO", "stats"))["total_connections_received"] == before
        assert await client.call("GET", "count-199") == b"5"


async def test_replies_have_the_form_that_redis_py_gives_them(server):
    async with aclosing(RedisClient(server)) as client:
        first = [await client.call(*words) for words in (("SADD", "s", "x"), ("SMEMBERS", "s"), ("INFO", "server"))]
        await piped(client)
        then = [await client.call(*words) for words in (("SADD", "s", "y"), ("SMEMBERS", "s"), ("INFO", "server"))]
        assert list(map(type, then)) == list(map(type, first))
        assert set(then[1]) == {b"x", b"y"}


async def test_what_is_under_way_fails_when_the_server_dies_and_what_comes_later_is_answered(tmp_path):
    with redis_servers.redis_alone(tmp_path) as (url, node):
        async with aclosing(RedisClient(url)) as client:
            pipe = await piped(client)
            node.send(redis_servers.STOP)
            calls = [asyncio.create_task(client.call("INCR", "n")) for _ in range(3)]
            await asyncio.sleep(0.05)
            node.kill()
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(end, RedisError) for end in ends)
            assert not pipe.open
            node.start().wait_ready()
            assert await Scripts(client).call("INCR", "n", deadline=5) == 1
            assert await piped(client) is not pipe


@pytest.mark.parametrize("said", [b"+OK\r\n", b"HTTP/1.1 400 Bad Request\r\n"])
async def test_what_nobody_has_asked_for_closes_the_connection(server, said):
    """Every later reply would go to the wrong one."""
    async with aclosing(RedisClient(server)) as client:
        pipe = await piped(client)
        pipe.data_received(said)
        assert not pipe.open
        assert await client.call("ECHO", "mine") == b"mine"


async def test_it_is_encrypted_where_the_url_says_so(server):
    async with encrypted(server) as url, aclosing(RedisClient(url)) as client:
        await piped(client)
        big = b"x" * 3_000_000
        assert await client.call("SET", "big", big)
        assert await client.call("GET", "big") == big
        assert await asyncio.gather(*(client.call("ECHO", n) for n in range(50))) == [b"%d" % n for n in range(50)]


@asynccontextmanager
async def encrypted(server):
    """A way to the server with TLS."""
    host, port = server.removeprefix("redis://").removesuffix("/0").split(":")

    async def copy(reader, writer):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
        writer.close()

    async def carry(reader, writer):
        from_server, to_server = await asyncio.open_connection(host, port)
        await asyncio.gather(copy(reader, to_server), copy(from_server, writer), return_exceptions=True)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    listener = await asyncio.start_server(carry, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield _url(listener).replace("redis://", "rediss://") + "?ssl_cert_reqs=none"


def _url(listener):
    return f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"


async def test_a_connection_that_breaks_late_gives_a_script_no_second_deadline(tmp_path):
    with redis_servers.redis_alone(tmp_path) as (url, node):
        async with aclosing(RedisClient(url)) as client:
            await piped(client)
            node.send(redis_servers.STOP)
            began = time.monotonic()
            running = asyncio.create_task(Scripts(client).run("settled", ["g1:{p1}:reservation:x"], (), 1.0))
            await asyncio.sleep(0.7)
            node.kill()
            with pytest.raises(StoreUnavailable):
                await running
            assert time.monotonic() - began < 1.5
