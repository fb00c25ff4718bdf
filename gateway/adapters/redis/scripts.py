"""Lua scripts by name, run again until a deadline while the server cannot be reached.

Running a script twice is safe because every script is idempotent per request id (its header says how).
"""

import asyncio
import hashlib
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

from redis.exceptions import DataError, NoScriptError, RedisError, ResponseError

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.links import TRANSIENT, Command, Confirmed

SHORTEST_WAIT, LONGEST_WAIT = 0.02, 0.4  # seconds between tries, with full jitter (parts.md section 2)


# What a server refuses because of its own state; those that redis-py knows have classes of their own.
_ITS_STATE = ("MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED", "OOM")


# A script is run by its name so often, since each node of a Cluster learns it by itself, before its text goes along.
NAMED_TRIES = 3
_NONE = object()


class StoreUnavailable(Exception):
    """No answer within the deadline. What was asked may have been done all the same."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the name under which the server remembers it."""

    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """Read a script of lua/ once; the pieces of lua/lib/ that its line `-- With: ` names go in after its first line."""
    folder = Path(__file__).parent / "lua"
    flags, rest = (folder / f"{name}.lua").read_text("utf-8").split("\n", 1)
    named = re.match(r"-- With: (.+)\n", rest)
    pieces = [(folder / "lib" / f"{piece}.lua").read_text("utf-8") for piece in (named[1].split(", ") if named else ())]
    text = "\n".join([flags, *pieces, rest])
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Scripts:
    """Runs scripts on one client. `crashed` is told what a server that is well would not have refused: a defect.

    `spans` opens what is kept of each run in the trace of its request, by the name of the script or command.
    """

    def __init__(
        self,
        client: RedisClient,
        crashed: Callable[[BaseException], None] | None = None,
        spans: Callable[[str], AbstractContextManager[object]] | None = None,
    ) -> None:
        self._client = client
        self._crashed = crashed
        self._spans = spans
        self._teaching: dict[str, asyncio.Future[None]] = {}  # by their names, the scripts on their way to a server

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[object], deadline: float) -> Any:  # noqa: ANN401 - a reply
        """Run a script, trying again until `deadline` seconds are over.

        Raises:
            StoreUnavailable: the server did not answer in time.
        """
        return (await self.run_confirmed(name, keys, arguments, deadline, 0)).reply

    async def run_confirmed(
        self,
        name: str,
        keys: Sequence[str],
        arguments: Sequence[object],
        deadline: float,
        replicas: int,
    ) -> Confirmed:
        """Run a script as `run` does, and say how many replicas have what it wrote: as many as asked for, or fewer."""
        lua, words = script(name), (len(keys), *keys, *arguments)
        began = monotonic()
        if not replicas and (reply := await self._quickly(("EVALSHA", lua.sha, *words), deadline)) is not _NONE:
            return Confirmed(reply, 0)
        left = deadline - (monotonic() - began)
        confirmed: Confirmed = await self._traced(name, left, lambda: self._evaluate(lua, words, replicas))
        return confirmed

    async def call(self, *command: object, deadline: float = 2.0) -> Any:  # noqa: ANN401 - a reply
        """Run a plain command that may be run twice; StoreUnavailable as for scripts."""
        began = monotonic()
        if (reply := await self._quickly(command, deadline)) is not _NONE:
            return reply
        left = deadline - (monotonic() - began)
        return await self._traced(str(command[0]), left, lambda: self._client.call(*command))

    async def _traced(self, name: str, deadline: float, attempt: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - a reply
        if self._spans is None:
            return await self._within(deadline, attempt)
        with self._spans(name):
            return await self._within(deadline, attempt)

    async def _quickly(self, command: Command, deadline: float) -> Any:  # noqa: ANN401 - a reply
        """Try once, by one timer, which costs a third of asyncio.timeout; _NONE when another way may do better."""
        reply = None if self._spans else self._client.at_once(*command)
        if reply is None:
            return _NONE
        timer = asyncio.get_running_loop().call_later(deadline, _give_up, reply)
        try:
            return await reply
        except StoreUnavailable:
            raise
        except (NoScriptError, *TRANSIENT):
            return _NONE  # the connection has broken, or the script is not known yet
        except RedisError as failure:
            raise self._refused(failure) from failure
        finally:
            timer.cancel()

    async def _within(self, deadline: float, attempt: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - a reply
        try:
            async with asyncio.timeout(deadline):
                return await self._until_answered(attempt)
        except TimeoutError as failure:
            raise StoreUnavailable(f"no answer within {deadline:g} s") from failure
        except RedisError as failure:
            raise self._refused(failure) from failure

    def _refused(self, failure: RedisError) -> StoreUnavailable:
        """Tell of a defect; who asked is refused as in an outage."""
        if self._crashed is not None and _is_defect(failure):
            self._crashed(failure)
        return StoreUnavailable(str(failure))

    async def _until_answered(self, attempt: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 - a reply
        while True:
            try:
                return await attempt()
            except TRANSIENT:
                await asyncio.sleep(random.uniform(SHORTEST_WAIT, LONGEST_WAIT))  # noqa: S311 - jitter, not a secret

    async def _evaluate(self, lua: Script, words: Sequence[Any], replicas: int) -> Confirmed:
        """Run a script by its name; one that the server does not know yet is sent to it by the first who notices.

        Thousands may notice at once, when a server is new: each would send 10 KB.
        """
        for _ in range(NAMED_TRIES):
            try:
                return await self._client.confirmed(replicas, "EVALSHA", lua.sha, *words)
            except NoScriptError:
                if (teaching := self._teaching.get(lua.sha)) is None:
                    break
                await asyncio.wait({teaching})
        return await self._teach(lua, words, replicas)

    async def _teach(self, lua: Script, words: Sequence[Any], replicas: int) -> Confirmed:
        teaching = self._teaching[lua.sha] = asyncio.get_running_loop().create_future()
        try:
            return await self._client.confirmed(replicas, "EVAL", lua.text, *words)
        finally:
            teaching.set_result(None)
            if self._teaching.get(lua.sha) is teaching:
                del self._teaching[lua.sha]


def _give_up(reply: asyncio.Future[Any]) -> None:
    if not reply.done():
        reply.set_exception(StoreUnavailable("no answer in time"))


def _is_defect(failure: RedisError) -> bool:
    """Tell a word of a wrong type, a wrong command or a failing script from a server that is not well."""
    if isinstance(failure, DataError):
        return True
    return type(failure) is ResponseError and not str(failure).startswith(_ITS_STATE)
