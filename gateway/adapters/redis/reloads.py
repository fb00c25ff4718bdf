"""Calls on all replicas to read their settings anew, and collects what they say to it."""

from collections.abc import Sequence

import msgspec

from gateway.adapters.redis.names import RELOADS
from gateway.adapters.redis.replies import asked
from gateway.adapters.redis.scripts import Scripts
from gateway.service.ports_reloads import Reloaded

ANSWERS_SECONDS = 300  # that answers are kept
_answer = msgspec.json.Decoder(Reloaded)


class RedisReloads:
    """The port of reloads; a replica answers with the same."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def call(self, call: str) -> int:
        """Let replicas read their settings anew; gives how many hear it."""
        # PUBLISH says how many heard it at one node of a Cluster; each listens at one of them.
        counted = await asked(self._scripts.call("PUBSUB NUMSUB", RELOADS))
        await asked(self._scripts.call("PUBLISH", RELOADS, call))
        return int(counted[0][1] if isinstance(counted[0], list | tuple) else counted[1])

    async def answers(self, call: str) -> Sequence[Reloaded]:
        """Give what replicas have said to a call so far."""
        return [_answer.decode(said) for said in await asked(self._scripts.call("HVALS", _answers(call)))]

    async def answer(self, call: str, said: Reloaded) -> None:
        """Say what came of a call here."""
        await asked(self._scripts.call("HSET", _answers(call), said.replica, msgspec.json.encode(said)))
        await asked(self._scripts.call("EXPIRE", _answers(call), ANSWERS_SECONDS))


def _answers(call: str) -> str:
    return f"{RELOADS}:{call}"
