"""Where names lead. What is looked up here is what is connected to: nobody looks a second time."""

import asyncio
import errno
import socket
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address

from gateway.domain.addresses import is_public

REMEMBERED_SECONDS = 10.0  # so that a burst of connections is one look-up


class Resolver:
    """Asks the system, in its order of addresses. Equal look-ups at one time are one."""

    def __init__(self) -> None:
        self._lookups: dict[str, asyncio.Task[list[str]]] = {}

    async def resolve(self, host: str) -> Sequence[str]:
        """Give a host's addresses; OSError or ValueError when it has none."""
        if _is_address(host):
            return [host]
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = asyncio.create_task(_looked_up(host))
            lookup.add_done_callback(partial(self._remember, host))
        return await asyncio.shield(lookup)  # who leaves does not take it from the others

    def _remember(self, host: str, lookup: asyncio.Task[list[str]]) -> None:
        """Forget a failure at once."""
        if lookup.cancelled() or lookup.exception():
            del self._lookups[host]
        else:
            lookup.get_loop().call_later(REMEMBERED_SECONDS, self._lookups.pop, host)


class PublicResolver(Resolver):
    """Resolves to public addresses only, so that a URL in an answer cannot reach into the operator's network."""

    def __init__(self, *, except_hosts: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._except_hosts = except_hosts

    async def resolve(self, host: str) -> Sequence[str]:
        """Give a host's addresses; OSError when one of them is not public."""
        found = await super().resolve(host)
        if host not in self._except_hosts and not all(is_public(ip_address(address)) for address in found):
            raise OSError(errno.EHOSTUNREACH, f"{host} resolves to an address that is not public")
        return found


async def _looked_up(host: str) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(address[0]) for *_, address in found]


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False
