"""The door to Redis against a real server: one tick is one pipeline, and nobody waits for ever."""

import asyncio
import signal
import time
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import RedisError, ResponseError

from gateway.adapters.redis.client import RedisClient
from gateway.domain.errors import Misconfigured
from tests import servers
from tests.fakes import settle

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with servers.redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


@pytest.fixture
async def client(server):
    client = RedisClient(server)
    await client.call("FLUSHALL")
    yield client
    await client.aclose()


async def number_of(client, what):
    return (await client.call("INFO", "stats"))[what]


async def test_a_command_gives_its_reply(client):
    assert await client.call("SET", "a", "1") is True
    assert await client.call("GET", "a") == b"1"
    assert await client.call("INCRBY", "a", 41) == 42
    assert await client.call("EVAL", "return {KEYS[1], ARGV[1]}", 1, "k", b"\xff\0") == [b"k", b"\xff\0"]
    await client.ping()
    assert await client.answers() is True


async def test_a_hundred_calls_at_once_travel_as_one_pipeline(client):
    """Counted by the server: it reads once for all of them, on one connection."""
    await client.ping()
    reads, connections = (
        await number_of(client, "total_reads_processed"),
        await number_of(client, "total_connections_received"),
    )
    replies = await asyncio.gather(*(client.call("RPUSH", "list", number) for number in range(100)))
    assert replies == list(range(1, 101))
    assert await client.call("LRANGE", "list", 0, -1) == [str(number).encode() for number in range(100)]
    assert await number_of(client, "total_reads_processed") - reads <= 5
    assert await number_of(client, "total_connections_received") == connections


async def test_calls_of_different_ticks_do_not_wait_for_each_other(client):
    slow = asyncio.create_task(client.call("BLPOP", "nothing", 2))
    await settle()
    await asyncio.wait_for(client.call("SET", "a", "1"), 1)
    assert not slow.done()
    await client.call("RPUSH", "nothing", "x")
    assert list(await slow) == [b"nothing", b"x"]


async def ends_of(*commands, within=3.0):
    return await asyncio.wait_for(asyncio.gather(*commands, return_exceptions=True), within)


async def test_an_error_is_the_callers_own(client):
    first, wrong, unknown, last = await ends_of(
        client.call("SET", "a", "1"), client.call("INCR", "a", "b"), client.call("NOSUCH"), client.call("GET", "a")
    )
    assert (first, last) == (True, b"1")
    assert isinstance(wrong, ResponseError)
    assert isinstance(unknown, ResponseError)


@pytest.mark.parametrize("argument", [None, {"a": 1}, "\ud800"])
async def test_a_command_that_cannot_be_written_is_the_callers_own(client, argument):
    """Everything else of that tick is another request's; and the caller is told rather than left waiting."""
    first, wrong, last = await ends_of(
        client.call("SET", "a", "1"), client.call("SET", "b", argument), client.call("GET", "a")
    )
    assert isinstance(wrong, Exception)
    assert (first, last) == (True, b"1")


@pytest.mark.parametrize("command", [(), ("\ud800",), (None,)])
async def test_what_is_no_command_keeps_nobody_waiting(client, command):
    wrong, other = await ends_of(client.call(*command), client.call("PING"))
    assert isinstance(wrong, Exception)
    assert other is True or isinstance(other, Exception)


async def test_a_caller_that_leaves_disturbs_nobody(client):
    await client.ping()
    leaver = asyncio.create_task(client.call("INCR", "left"))
    others = [asyncio.create_task(client.call("INCR", "stayed")) for _ in range(3)]
    await asyncio.sleep(0)
    leaver.cancel()
    assert await asyncio.gather(*others) == [1, 2, 3]
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert await client.call("GET", "left") == b"1"


async def test_closing_waits_for_what_is_under_way(server):
    client = RedisClient(server)
    under_way = [asyncio.create_task(client.call("INCR", "under way")) for _ in range(3)]
    await settle(3)
    await client.aclose()
    assert await asyncio.gather(*under_way) == [1, 2, 3]


async def test_nothing_listens():
    client = RedisClient(f"redis://127.0.0.1:{servers.free_port()}/0")
    ends = await ends_of(*(client.call("PING") for _ in range(3)))
    assert all(isinstance(end, RedisError) for end in ends)
    assert await client.answers() is False
    await client.aclose()


async def test_a_server_that_dies_and_comes_back_is_noticed(tmp_path):
    with servers.redis_server(tmp_path) as (url, process):
        client = RedisClient(url)
        await client.ping()
        process.kill()
        process.wait()
        started = time.monotonic()
        assert all(isinstance(end, RedisError) for end in await ends_of(*(client.call("PING") for _ in range(3))))
        assert time.monotonic() - started < 2
        assert await client.answers() is False
        await client.aclose()


async def test_a_server_that_hangs_is_given_up_and_its_late_replies_go_to_nobody(tmp_path, monkeypatch):
    for way in ("single", "pipe"):
        monkeypatch.setattr(f"gateway.adapters.redis.{way}.ANSWER_SECONDS", 1.0)
    with servers.redis_server(tmp_path) as (url, process):
        client = RedisClient(url)
        await client.call("SET", "a", "before")
        process.send_signal(signal.SIGSTOP)
        ends = await ends_of(client.call("GET", "a"), client.call("INCR", "n"))
        assert all(isinstance(end, RedisError) for end in ends)
        process.send_signal(signal.SIGCONT)
        assert await client.call("ECHO", "now") == b"now"
        assert await client.call("GET", "a") == b"before"
        await client.aclose()


async def test_more_pipelines_than_connections_wait_their_turn(client):
    """Sixty ticks in flight at once, on at most twenty connections."""
    tasks = []
    for number in range(60):
        tasks.append(asyncio.create_task(client.call("EVAL", "return ARGV[1]", 0, number)))
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == [str(number).encode() for number in range(60)]
    listed = await client.call("CLIENT", "LIST")
    assert listed.count(b"id=") <= 20


@asynccontextmanager
async def losing_answers(url):
    """A way to the server on which the answer to INCR, and with it the connection, is lost."""
    host, port = url.removeprefix("redis://").removesuffix("/0").split(":")
    carriers = []

    async def carry(reader, writer):
        carriers.append(asyncio.current_task())
        from_server, to_server = await asyncio.open_connection(host, port)
        command = b""
        while b"INCR" not in command and (command := await reader.read(65_536)):
            to_server.write(command)
            answer = await from_server.read(65_536)
            if b"INCR" not in command:
                writer.write(answer)
        for end in (writer, to_server):
            end.close()
            await end.wait_closed()

    listener = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with listener:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0"
        await asyncio.gather(*carriers)


async def test_a_command_whose_answer_is_lost_is_not_run_again(server, client):
    """It may be a script that reserves or spends: whether to try again is the caller's choice."""
    async with losing_answers(server) as url:
        unlucky = RedisClient(url)
        [end] = await ends_of(unlucky.call("INCR", "once"))
        assert isinstance(end, RedisError)
        await unlucky.aclose()
    assert await client.call("GET", "once") == b"1"


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:6379", "127.0.0.1:6379", "redis:/127.0.0.1", "amqp://redis://x"])
def test_an_address_of_another_kind_is_refused(url):
    with pytest.raises(Misconfigured, match="REDIS_URL"):
        RedisClient(url)


@pytest.mark.parametrize("url", ["redis://h:x/0", "redis://[h", "redis://:s3cret/x@h:6379/0", "redis://:s3cret@h:x"])
def test_an_address_that_cannot_be_read_is_refused_without_its_password(url):
    with pytest.raises(Misconfigured, match="REDIS_URL") as failure:
        RedisClient(url)
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://127.0.0.1:6379/3", "127.0.0.1:6379/3"),
        ("redis://:s3cret@h:6379/0", "h:6379/0"),
        ("rediss://user:the@s3cret@h:6380", "h:6380"),
        ("redis://h:6379?password=s3cret", "h:6379"),
        ("unix://user:s3cret@/run/redis.sock?db=1", "/run/redis.sock"),
    ],
)
def test_the_address_is_told_without_its_password(url, where):
    told = RedisClient(url).where
    assert told.startswith(url.partition(":")[0])
    assert told.endswith(where)
    assert "s3cret" not in told
