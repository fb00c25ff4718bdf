"""Internet addresses: networks that an operator writes, and whose address a request really comes from."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from gateway.domain.errors import InvalidValue

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Networks = tuple[Network, ...]
_EMBEDDING = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
_MAPPED_BITS = 96  # of ::ffff:0:0, behind which an address of version 4 stands


def parse_networks(words: Iterable[str], param: str = "ips") -> Networks:
    """Read addresses and networks in CIDR form; ::ffff:1.2.3.0/120 is 1.2.3.0/24, as parse_address reads clients.

    Raises:
        InvalidValue: one of them is neither, or has bits set outside its mask.
    """
    return tuple(_network(word.strip(), param) for word in words)


def parse_address(text: str) -> Address | None:
    """Read an address as proxies write it, with or without a port; None when it is none. ::ffff:1.2.3.4 is 1.2.3.4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_within(address: Address, networks: Networks) -> bool:
    """Tell whether one of the networks holds the address."""
    return any(address in network for network in networks)


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Networks) -> Address | None:
    """Give the address of the client; None when it cannot be known.

    `forwarded` are the entries of X-Forwarded-For, the client's end first. Anyone may write there, so an entry counts
    only when a trusted proxy wrote it: the client is the last entry that is no trusted proxy itself.
    """
    nearest = parse_address(peer) if peer else None
    if nearest is None or not is_within(nearest, trusted):
        return nearest
    for entry in reversed([entry for entry in forwarded if entry.strip()]):
        nearest = parse_address(entry)
        if nearest is None or not is_within(nearest, trusted):
            return nearest
    return nearest


def is_loopback(url: str) -> bool:
    """Tell whether a URL points at this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def is_public_host(host: str) -> bool:
    """Tell whether a host is a name or an address of the Internet; where a name leads, its resolver has to see.

    Numbers like 127.1 or 2130706433 are addresses to the system, and to a proxy, which resolves names itself.
    """
    try:
        return is_public(ip_address(host.partition("%")[0]))
    except ValueError:
        return not host.replace(".", "").isdigit()


def is_public(address: Address) -> bool:
    """Tell whether an address is of the Internet, and so is the one of version 4 that one of version 6 stands for."""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address.sixtofour or _translated(address) or address
    return address.is_global and not address.is_multicast


def _translated(address: IPv6Address) -> IPv4Address | None:
    """Give the address of version 4 that a translator (RFC 6052) or an old tunnel (::/96) leads to."""
    if any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _network(word: str, param: str) -> Network:
    try:
        return _unmapped(ip_network(word))
    except ValueError:
        raise InvalidValue(
            f"'{word[:100]}' is no address or network; write them like 192.0.2.7 or 10.0.0.0/8.", param=param
        ) from None


def _unmapped(network: Network) -> Network:
    """Give the network of version 4 that one of mapped addresses stands for."""
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    bits = network.prefixlen - _MAPPED_BITS
    return IPv4Network((mapped, bits)) if mapped is not None and bits >= 0 else network
