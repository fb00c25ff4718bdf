"""Every gateway hears a call to reload, the caller knows how many they are, and gets their answers."""

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from uuid import uuid4

import pytest

from gateway.adapters.redis.changes import listen
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.names import CHANGES, RELOADS
from gateway.adapters.redis.reloads import RedisReloads
from gateway.adapters.redis.scripts import Scripts
from gateway.service.jobs import end
from gateway.service.ports_reloads import Reloaded

pytestmark = pytest.mark.anyio
WAIT = 10.0


async def replica(stack, url, name):
    """Answer to each call, with the name that it has."""
    client = await stack.enter_async_context(aclosing(RedisClient(url)))
    reloads, hears, answers = RedisReloads(client, Scripts(client)), asyncio.Event(), set()

    def called(call):
        answers.add(asyncio.create_task(reloads.answer(call, Reloaded(replica=name, fixed=(call,)))))

    stack.push_async_callback(end, asyncio.create_task(listen(client, {CHANGES: called, RELOADS: called}, hears.set)))
    await asyncio.wait_for(hears.wait(), WAIT)


async def test_replicas_are_counted_and_answer(server):
    async with AsyncExitStack() as stack:
        for name in ("one", "two", "three"):
            await replica(stack, server, name)
        client = await stack.enter_async_context(aclosing(RedisClient(server)))
        operator = RedisReloads(client, Scripts(client))
        call = uuid4().hex
        assert await operator.call(call) == 3
        answers, deadline = [], time.monotonic() + WAIT
        while len(answers) < 3:
            assert time.monotonic() < deadline
            answers = await operator.answers(call)
        assert {answer.replica for answer in answers} == {"one", "two", "three"}
        assert {answer.fixed for answer in answers} == {(call,)}
        assert await operator.answers(uuid4().hex) == []


async def test_where_nobody_listens_nobody_is_counted(server):
    async with aclosing(RedisClient(server)) as client:
        assert await RedisReloads(client, Scripts(client)).call(uuid4().hex) == 0
