"""The connections of a transport: those that wait for a next request, the last one first, and all of them."""

import asyncio

from gateway.adapters.glm.transport.connection import Connection, Key

# Shorter than any usual server's keep-alive, so that a paid POST never goes out on a connection about to be closed.
KEEPALIVE_SECONDS = 4.0
_LEAST_SECONDS = 0.05  # between two looks


class Pool:
    """Keeps connections for KEEPALIVE_SECONDS after an answer."""

    def __init__(self) -> None:
        self._idle: dict[Key, list[Connection]] = {}  # in each the one that has waited longest first
        self._all: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self, key: Key) -> Connection | None:
        """Give a connection that may be used, if there is one."""
        idle = self._idle.get(key)
        while idle:
            connection = idle.pop()
            if _is_fresh(connection):
                return connection
            connection.close()
        return None

    def make(self) -> Connection:
        """Make a connection's protocol, so that it is closed with the others.

        Raises:
            ConnectionAbortedError: the pool is closed.
        """
        if self._closed:
            raise ConnectionAbortedError("the transport is closed")
        connection = Connection(self._keep, self._all.discard)
        self._all.add(connection)
        return connection

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self._all):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # in which the sockets are closed

    def _keep(self, connection: Connection) -> None:
        if connection.key is None:
            return  # it is a proxy's, and on the way to its host
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(connection.key, []).append(connection)
        if self._timer is None:
            self._timer = loop.call_later(KEEPALIVE_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what has waited too long, and look again when the next one has."""
        self._timer = None
        idle, self._idle = self._idle, {}
        for key, connections in idle.items():
            fresh = [connection for connection in connections if _is_fresh(connection)]
            for connection in set(connections).difference(fresh):
                connection.close()
            if fresh:
                self._idle[key] = fresh
        if self._idle:
            loop = asyncio.get_running_loop()
            oldest = min(connections[0].idle_since for connections in self._idle.values())
            left = oldest + KEEPALIVE_SECONDS - loop.time()
            self._timer = loop.call_later(max(left, _LEAST_SECONDS), self._sweep)


def _is_fresh(connection: Connection) -> bool:
    age = asyncio.get_running_loop().time() - connection.idle_since
    return connection.usable and age < KEEPALIVE_SECONDS
