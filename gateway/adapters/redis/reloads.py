"""Calls on all replicas to read their settings anew, and collects what they say to it."""

from collections.abc import Sequence

import msgspec
from redis.exceptions import RedisError

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.names import RELOADS
from gateway.adapters.redis.replies import asked
from gateway.adapters.redis.scripts import Scripts
from gateway.service.ports import QuotaUnavailable
from gateway.service.ports_reloads import Reloaded

ANSWERS_SECONDS = 300  # that answers are kept
_answer = msgspec.json.Decoder(Reloaded)


class RedisReloads:
    """The port of reloads; a replica answers with the same."""

    def __init__(self, redis: RedisClient, scripts: Scripts) -> None:
        self._redis = redis
        self._scripts = scripts

    async def call(self, call: str) -> int:
        """Let replicas read their settings anew; gives how many hear it."""
        try:
            replicas = await self._redis.listeners(RELOADS)
        except (RedisError, OSError) as failure:
            raise QuotaUnavailable(str(failure)) from failure
        await asked(self._scripts.call("PUBLISH", RELOADS, call))
        return replicas

    async def answers(self, call: str) -> Sequence[Reloaded]:
        """Give what replicas have said to a call so far."""
        return [_answer.decode(said) for said in await asked(self._scripts.call("HVALS", _answers(call)))]

    async def answer(self, call: str, said: Reloaded) -> None:
        """Say what came of a call here."""
        await asked(self._scripts.call("HSET", _answers(call), said.replica, msgspec.json.encode(said)))
        await asked(self._scripts.call("EXPIRE", _answers(call), ANSWERS_SECONDS))


def _answers(call: str) -> str:
    return f"{RELOADS}:{call}"
