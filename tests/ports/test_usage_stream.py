"""The stream of usage on every server: a line that no ledger will ever hold is kept apart and holds up nothing."""

import uuid

import pytest
from redis.exceptions import ResponseError

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.events import RedisUsageStream
from gateway.adapters.redis.names import Names, encode_event
from gateway.adapters.redis.scripts import Scripts, StoreUnavailable
from gateway.domain.quota import shard_of
from tests.builders import NOW, a_line

pytestmark = pytest.mark.anyio


class Desk:
    """The stream of one project's shard, as it is found."""

    def __init__(self, client):
        self.scripts, self.told = Scripts(client), []
        self.stream = RedisUsageStream(self.scripts, "drain", set_aside=lambda *words: self.told.append(words))
        self.project = f"proj_{uuid.uuid4().hex}"
        self.shard = shard_of(self.project)
        self.names = Names(self.shard)

    async def add(self, content):
        position = await self.scripts.call("XADD", self.names.of("events"), "*", "event", content)
        return position.decode()

    async def line(self):
        return await self.add(encode_event(a_line(uuid.uuid4().hex, project_id=self.project), NOW))

    async def waiting(self):
        return [place for place, line in await self.stream.pending(self.shard) if line.project_id == self.project]

    async def apart(self):
        """What is kept apart, by its former positions."""
        entries = await self.scripts.call("XRANGE", self.names.of("unreadable"), "-", "+")
        found = [fields if isinstance(fields, dict) else _paired(fields) for _, fields in entries]
        return {fields[b"position"].decode(): fields[b"event"] for fields in found}


def _paired(fields):
    return dict(zip(fields[::2], fields[1::2], strict=True))


@pytest.fixture
async def desk(server):
    client = RedisClient(server)
    yield Desk(client)
    await client.aclose()


async def test_what_cannot_be_read_is_kept_apart_and_told(desk):
    good, bad, later = await desk.line(), await desk.add(b"{}"), await desk.line()
    assert await desk.waiting() == [good, later]
    assert await desk.waiting() == [good, later]
    assert (await desk.apart())[bad] == b"{}"
    assert [told[:2] for told in desk.told] == [("unreadable", bad)]


async def test_what_the_ledger_refuses_is_kept_apart_and_told(desk):
    first, second, third = await desk.line(), await desk.line(), await desk.line()
    await desk.stream.put_aside(desk.shard, {second: "too large"})
    assert await desk.waiting() == [first, third]
    assert second in await desk.apart()
    assert desk.told == [("refused", second, "too large")]
    await desk.stream.put_aside(desk.shard, {second: "too large"})
    assert len(desk.told) == 1


async def test_who_asks_for_lines_that_the_ledger_refused_is_told(desk):
    first, second = await desk.line(), await desk.line()
    names = dict(await desk.stream.pending(desk.shard))
    kept, refused = names[first].event_id, names[second].event_id
    assert await desk.stream.refused(desk.shard, [kept, refused]) == set()
    await desk.stream.put_aside(desk.shard, {second: "too large"})
    assert await desk.stream.refused(desk.shard, [kept, refused]) == {refused}


async def test_lines_come_to_lie_apart_in_any_order(desk):
    """A stream takes no entry that is older than its newest one; these come as they are found."""
    old = await desk.line()
    bad = await desk.add(b"{}")
    assert await desk.waiting() == [old]
    await desk.stream.put_aside(desk.shard, {old: "too large"})
    assert {old, bad} <= set(await desk.apart())
    assert await desk.waiting() == []


async def test_a_defect_is_told_as_such(server):
    """It is an outage to who asks, and must not look like one to the operator."""
    client, crashes = RedisClient(server), []
    scripts = Scripts(client, crashes.append)
    key = Names(7).of("test", uuid.uuid4().hex)
    with pytest.raises(StoreUnavailable):
        await scripts.call("SET", key, object())
    await scripts.call("SET", key, "text")
    with pytest.raises(StoreUnavailable):
        await scripts.call("SADD", key, "member")
    assert [type(crash).__name__ for crash in crashes] == ["DataError", ResponseError.__name__]
    await scripts.call("DEL", key)
    await client.aclose()
