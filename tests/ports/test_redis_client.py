"""Every form of REDIS_URL, on the servers that it leads to."""

import asyncio
import uuid
from contextlib import aclosing
from urllib.parse import quote

import pytest
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ClusterCrossSlotError, RedisError

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.cluster import ClusterLink
from gateway.adapters.redis.links import TRANSIENT, Confirmed, Topology
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.adapters.redis.urls import parse_redis_url
from gateway.domain.errors import Misconfigured
from tests import redis_servers
from tests.servers import free_port

pytestmark = pytest.mark.anyio
PASSWORD, SENTINEL_PASSWORD = "p@ss/word:1", "other+p%ss&2"
SET = "redis.call('SET', KEYS[1], ARGV[1]) return ARGV[1]"


def client(url):
    return aclosing(RedisClient(url))


@pytest.mark.parametrize(
    ("url", "nodes", "where"),
    [
        ("redis://u:p%40s@h:1/2", [("h", 1)], "redis://h:1/2"),
        ("rediss://h?ssl_cert_reqs=none&password=p%40s", [("h", 6379)], "rediss://h:6379"),
        ("redis://[::1]:7", [("::1", 7)], "redis://[::1]:7"),
        ("redis://:p%40s@h1,h2:7", [("h1", 6379), ("h2", 7)], "redis://h1:6379,h2:7"),
        ("redis://:p%40s@h1:7,redis://:p%40s@h2:7", [("h1", 7), ("h2", 7)], "redis://h1:7,h2:7"),
        ("unix:///run/r.sock?db=1", [], "unix:///run/r.sock"),
        ("unix://u:p%40s@/run/r.sock", [], "unix:///run/r.sock"),
        ("redis+sentinel://:p%40s@h1,h2:7/main/3", [("h1", 26379), ("h2", 7)], "redis+sentinel://h1:26379,h2:7/main/3"),
    ],
)
def test_a_url_is_read_and_shown_without_its_secrets(url, nodes, where):
    address = parse_redis_url(url)
    assert (list(address.nodes), address.where) == (nodes, where)
    assert address.options.get("password") == ("p@s" if "p%40s" in url else None)
    assert address.encrypted == url.startswith("rediss")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "h:6379",
            "http://h",
            "redis://",
            "redis://h:port",
            "redis://h:70000",
            "redis://h/name",
            "redis://h1,,h2",
        ),
        *("redis://:secret#1@h", "redis://:sec/ret@h", "redis://:1/secret@h", "redis://a:secret@h1,b:secret@h2"),
        *("unix://run/r.sock", "redis+sentinel://h", "redis+sentinel://h/main/x", "redis://h?secret=1"),
        *("redis://h?sentinel_password=secret", "redis+sentinel://h/main?sentinel_secret=secret"),
    ],
)
def test_a_wrong_url_is_refused_in_one_sentence_without_its_secrets(url):
    with pytest.raises(Misconfigured) as refused:
        RedisClient(url)
    assert str(refused.value).startswith("REDIS_URL ")
    assert "sec" not in str(refused.value)


async def test_every_topology_answers(server):
    async with client(server) as at:
        assert await at.answers()
        assert (await at.topology()).fails_over == ("," in server)
        name = uuid.uuid4().hex
        replies = await asyncio.gather(*(at.call("SET", f"{name}{number}", number) for number in range(30)))
        assert set(map(str, replies)) <= {"True", "b'OK'"}
        assert [await at.call("GET", f"{name}{number}") for number in range(3)] == [b"0", b"1", b"2"]


async def test_every_topology_lets_listen_to_channels(server):
    async with client(server) as at, await at.listener() as listener:
        await listener.subscribe("changes")
        await listener.get_message(timeout=2)
        await at.call("PUBLISH", "changes", "key")
        message = await listener.get_message(timeout=2)
        assert (message["type"], message["data"]) == ("message", b"key")


@pytest.fixture(scope="module")
def guarded_sentinel(tmp_path_factory):
    """Servers and Sentinels that each want a password of their own."""
    folder = tmp_path_factory.mktemp("guarded")
    with redis_servers.redis_sentinel(folder, password=PASSWORD, sentinel_password=SENTINEL_PASSWORD) as running:
        yield running.url


def with_passwords(url, password=PASSWORD, sentinel_password=SENTINEL_PASSWORD):
    own, of_sentinels = quote(password, safe=""), quote(sentinel_password, safe="")
    return f"{url.replace('://', f'://:{own}@')}?sentinel_password={of_sentinels}"


async def test_servers_and_sentinels_have_passwords_of_their_own(guarded_sentinel):
    async with client(with_passwords(guarded_sentinel)) as at, await at.listener() as listener:
        assert await at.call("SET", "x", 1)
        await listener.subscribe("changes")
        assert (await listener.get_message(timeout=2))["type"] == "subscribe"


@pytest.mark.parametrize("wrong", [{"password": "no"}, {"sentinel_password": "no"}])
async def test_a_wrong_password_of_either_is_an_outage_that_does_not_show_it(guarded_sentinel, wrong):
    async with client(with_passwords(guarded_sentinel, **wrong)) as at:
        with pytest.raises(RedisError) as refused:
            await at.call("GET", "x")
        shown = f"{refused.value!r} {at.where}"
        assert not any(secret in shown for secret in (PASSWORD, SENTINEL_PASSWORD))


def test_sentinels_may_have_users_too():
    url = "redis+sentinel://u:p%40s@h/main/0?sentinel_username=s%2Bt&sentinel_password=q%40r&health_check_interval=3"
    address = parse_redis_url(url)
    assert address.sentinel_options == {"username": "s+t", "password": "q@r"}
    assert (address.options["username"], address.options["password"]) == ("u", "p@s")
    assert address.options["health_check_interval"] == 3
    assert not any(secret in address.where for secret in ("p@s", "q@r", "%40"))


async def test_a_connection_that_is_closed_while_it_is_taken_is_an_outage_that_passes(cluster):
    """redis-py closes the idle connections of a node that has left the Cluster, whoever is about to use them."""
    script = ("EVAL", SET, 1, "a", "x")
    async with RedisCluster.from_url(f"redis://{cluster.rpartition(',')[2]}") as driver:
        link = ClusterLink(driver, Topology(fails_over=True, replicated=True))
        for moment in range(10):
            assert await link.send([script], 1) == [Confirmed(b"x", 1)]
            closing = asyncio.create_task(driver.get_node_from_key("a").disconnect_free_connections())
            for _ in range(moment):
                await asyncio.sleep(0)
            [reply] = await link.send([script], 1)
            assert isinstance(reply, (Confirmed, *TRANSIENT))
            await closing


async def test_one_node_of_a_cluster_is_enough_to_find_it(cluster):
    async with client(cluster.rpartition(",")[0].rpartition(",")[0] + f",127.0.0.1:{free_port()}") as at:
        assert await at.answers()
    async with client("redis://" + cluster.rpartition(",")[2]) as at:
        assert (await at.topology()).replicated
        keys = [uuid.uuid4().hex for _ in range(20)]
        assert await asyncio.gather(*(at.call("EVAL", SET, 1, key, key) for key in keys)) == [k.encode() for k in keys]
        with pytest.raises(ClusterCrossSlotError):
            await at.call("EVAL", SET, 2, "a", "b", "x")
    async with client("redis://" + cluster.rpartition(",")[2] + "/1") as at:
        with pytest.raises((Misconfigured, RedisError), match=r"no database but 0|out of range|not allowed"):
            await at.ping()


async def test_several_servers_that_are_no_cluster_are_refused(valkey):
    async with client(f"{valkey.removesuffix('/0')},127.0.0.1:{free_port()}") as at:
        with pytest.raises(Misconfigured, match="no Redis Cluster"):
            await at.call("GET", "x")


async def test_who_stops_asking_leaves_nothing_behind(tmp_path):
    """As a gateway does that stops while a server stands still; asyncio would log the failure as nobody's."""
    with redis_servers.redis_alone(tmp_path) as (url, node):
        async with client(url) as at:
            assert await at.answers()
            node.send(redis_servers.STOP)
            before = asyncio.all_tasks()
            asking = asyncio.create_task(at.answers(seconds=60))
            await asyncio.sleep(0.1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.sleep(0.1)
            left = {task for task in asyncio.all_tasks() - before if "ping" in str(task.get_coro())}
            node.kill()
    assert left == set()


@pytest.mark.parametrize("form", ["redis://{}", "redis://{},{}", "redis+sentinel://{}/main"])
async def test_nobody_at_home(form):
    nobody = f"127.0.0.1:{free_port()}"
    async with client(form.format(nobody, nobody)) as at:
        assert not await at.answers()
        with pytest.raises(RedisError):
            await at.call("GET", "x")
        with pytest.raises(StoreUnavailable):
            await Scripts(at).call("GET", "x", deadline=0.3)


async def test_many_who_meet_a_new_server_send_it_a_script_once(tmp_path):
    with redis_servers.redis_alone(tmp_path) as (url, node):
        async with client(url) as at:
            scripts = Scripts(at)
            said = await asyncio.gather(*(scripts.run("moment", ["{a}clock"], (), 5.0) for _ in range(500)))
        assert len(said) == 500
        assert node.ask("INFO", "commandstats")["cmdstat_eval"]["calls"] == 1


async def test_who_waits_for_a_script_to_arrive_is_served_when_its_sender_fails(tmp_path):
    with redis_servers.redis_alone(tmp_path) as (url, _):
        async with client(url) as at:
            scripts = Scripts(at)
            runs = [asyncio.create_task(scripts.run("moment", ["{a}clock"], (), 5.0)) for _ in range(20)]
            await asyncio.sleep(0)
            runs[0].cancel()
            said = await asyncio.gather(*runs, return_exceptions=True)
        assert isinstance(said[0], asyncio.CancelledError)
        assert all(isinstance(moment, int) for moment in said[1:])
