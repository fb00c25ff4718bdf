"""The way out through a proxy, by the names that everybody uses: HTTPS_PROXY, HTTP_PROXY, NO_PROXY.

Libraries that do it send what ~/.netrc says about a host, too: no key of ours is to come from there.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.domain.addresses import is_loopback
from gateway.domain.errors import Misconfigured

_NAMES = {"https": "HTTPS_PROXY", "http": "HTTP_PROXY"}


class Proxies:
    """Which proxy a URL is reached through; small letters go before capitals, as in other programs.

    Raises:
        Misconfigured: a proxy is none that can be used. What it says has no password in it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._proxies = {scheme: _proxy(environ, name) for scheme, name in _NAMES.items()}
        self._direct = [word.strip().lower().lstrip(".") for word in _read(environ, "NO_PROXY").split(",")]

    def of(self, url: str) -> str | None:
        """Give the proxy's URL; None when the URL is reached without one, as everything on this machine is."""
        parts = urlsplit(url)
        proxy, host = self._proxies.get(parts.scheme), parts.hostname or ""
        if not proxy or is_loopback(url) or self._is_direct(host) or self._is_direct(f"{host}:{parts.port}"):
            return None
        return proxy

    def _is_direct(self, host: str) -> bool:
        """Tell whether NO_PROXY names a host, or a domain above it; `*` names all."""
        return any(word == "*" or f".{host}".endswith(f".{word}") for word in self._direct if word)


def _proxy(environ: Mapping[str, str], name: str) -> str:
    url = _read(environ, name)
    url = url if "://" in url or not url else f"http://{url}"
    if url and not _is_usable(url):
        raise Misconfigured(f"{name} has to be like http://proxy.example:3128; other kinds of proxies cannot be used.")
    return url


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "http" and bool(parts.hostname) and parts.port != 0  # reading the port checks it
    except ValueError:
        return False


def _read(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name.lower()) or environ.get(name) or "").strip()
