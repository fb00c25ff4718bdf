"""Notes in the records of jobs: many go out together, and each hears what became of its own."""

import asyncio
from contextlib import aclosing

import pytest

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.marks import Mark, Marks
from gateway.adapters.redis.names import Names
from gateway.adapters.redis.scripts import Scripts
from gateway.service.ports import QuotaUnavailable
from tests import redis_servers

pytestmark = pytest.mark.anyio
SHARD = 7


def record(job_id):
    return Names(SHARD).of("reservation", job_id)


async def test_notes_of_one_moment_are_one_call_and_each_has_its_own_answer(tmp_path):
    with redis_servers.redis_alone(tmp_path) as (url, node):
        for job, fields in {"held": ("held", 1), "over": ("settled", 1), "taken": ("held", 5)}.items():
            node.ask("HSET", record(job), "state", fields[0], "fence", fields[1])
        async with aclosing(RedisClient(url)) as client:
            marks = Marks(Scripts(client))
            await marks.note(SHARD, "held", Mark("first", "1"), bytes)  # the server knows the script from now on
            node.ask("CONFIG", "RESETSTAT")
            said = await asyncio.gather(
                *(marks.note(SHARD, "held", Mark(f"sent:{number}", "1", fence=1), bytes) for number in range(300)),
                marks.note(SHARD, "over", Mark("paid:0", "x", fence=1), bytes),
                marks.note(SHARD, "over", Mark("left", "1", fence=1, ended=True), bytes),
                marks.note(SHARD, "taken", Mark("paid:0", "x", fence=1), bytes),
                marks.note(SHARD, "nobody's", Mark("paid:0", "x", fence=1), bytes),
            )
        assert said == [*[b"done"] * 300, b"ended", b"done", b"fenced", b"gone"]
        assert node.ask("INFO", "commandstats")["cmdstat_evalsha"]["calls"] == 1
        assert node.ask("HLEN", record("held")) == 2 + 1 + 300
        assert node.ask("HGETALL", record("over")) == {"state": "settled", "fence": "1", "left": "1"}
        assert node.ask("HLEN", record("taken")) == 2
        assert node.ask("EXISTS", record("nobody's")) == 0


async def test_who_leaves_takes_no_other_note_along_and_an_outage_is_told_to_all(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.adapters.redis.marks.SECONDS", 0.5)
    with redis_servers.redis_alone(tmp_path) as (url, node):
        node.ask("HSET", record("held"), "state", "held")
        async with aclosing(RedisClient(url)) as client:
            marks = Marks(Scripts(client))
            left, stays = (marks.note(SHARD, "held", Mark(name, "1"), bytes) for name in ("left", "stays"))
            left.cancel()
            assert await stays == b"done"
            assert node.ask("HEXISTS", record("held"), "stays")
            node.kill()
            notes = [marks.note(SHARD, "held", Mark(f"sent:{number}", "1"), bytes) for number in range(3)]
            ends = await asyncio.gather(*notes, return_exceptions=True)
            assert [type(end) for end in ends] == [QuotaUnavailable] * 3


async def test_notes_under_way_are_waited_for_before_the_client_is_closed(tmp_path):
    with redis_servers.redis_alone(tmp_path, appendonly="yes", appendfsync="always") as (url, node):
        node.ask("HSET", record("held"), "state", "held")
        async with aclosing(RedisClient(url)) as client:
            marks = Marks(Scripts(client))
            await marks.note(SHARD, "held", Mark("sent:0", "1"), bytes)
            node.kill()
            marks.note(SHARD, "held", Mark("paid:0", "x"), bytes)
            await marks.drain(0.3)
            await asyncio.to_thread(node.start)
            await marks.drain(5)
        assert node.ask("HGET", record("held"), "paid:0") == "x"
