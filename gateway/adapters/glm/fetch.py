"""Downloads what the upstream made, without trusting the URL, the name or the headers (glm-image-api.md section 6)."""

import asyncio
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urljoin

import httpx
from PIL import Image

from gateway.domain.image import PictureBytes
from gateway.service.ports import FetchFailed

CONNECT_SECONDS = 5.0
MOST_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}
# What Pillow's verify() lets pass although the pixels are missing; decoding them all would cost 40 ms of CPU.
_WHOLE: dict[str, Callable[[bytes], bool]] = {
    "png": lambda content: b"IDAT" in content,
    "jpeg": lambda content: b"\xff\xd9" in content[content.rfind(b"\xff\xda") :],  # an end behind the last scan
    "webp": lambda content: len(content) >= int.from_bytes(content[4:8], "little") + 8,
}
_DAMAGED = (OSError, SyntaxError, ValueError, LookupError, EOFError, struct.error, Image.DecompressionBombError)
_MEDIA: dict[str, Literal["png", "jpeg", "webp"]] = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchRules:
    """Which URLs may be fetched, and how much of them.

    `host_suffixes` are allowed hosts and their subdomains; `loopback_hosts` are host:port of upstreams that run on
    this machine, the only ones to be fetched over http and from a private address. Bytes and seconds.
    """

    host_suffixes: tuple[str, ...]
    loopback_hosts: tuple[str, ...] = ()
    max_bytes: int = 32 * 1024 * 1024
    timeout: float = 60.0


class PictureDownloads:
    """The picture source over one transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport, rules: FetchRules) -> None:
        self._transport = transport
        self._rules = rules

    async def fetch(self, url: str) -> PictureBytes:
        """Download a picture; see the port for what is raised."""
        try:
            async with asyncio.timeout(self._rules.timeout):
                content = await self._follow(url)
        except (httpx.HTTPError, TimeoutError) as failure:
            raise FetchFailed(f"{type(failure).__name__}: {failure}") from failure
        return await asyncio.to_thread(inspect, content)  # checksums over 2 MB: some milliseconds

    async def _follow(self, url: str) -> bytes:
        """Follow redirects, each of which must be allowed as well."""
        target = url
        for _ in range(MOST_REDIRECTS + 1):
            location, content = await self._get(allowed_url(target, self._rules))
            if location is None:
                return content
            target = location
        raise FetchFailed(f"more than {MOST_REDIRECTS} redirects", final=True)

    async def _get(self, url: httpx.URL) -> tuple[str | None, bytes]:
        """Send no key: the CDN needs none, and it is another party."""
        request = httpx.Request(
            "GET",
            url,
            headers={"Accept": "image/*", "Accept-Encoding": "identity"},
            extensions={"timeout": {"connect": CONNECT_SECONDS, "read": self._rules.timeout}},
        )
        response = await self._transport.handle_async_request(request)
        try:
            if response.status_code in _REDIRECTS and "location" in response.headers:
                return _joined(url, response.headers["location"]), b""
            if response.status_code != 200:  # noqa: PLR2004 - the only status of a whole picture
                raise FetchFailed(f"status {response.status_code}")
            return None, await self._body(response)
        finally:
            await response.aclose()

    async def _body(self, response: httpx.Response) -> bytes:
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > self._rules.max_bytes:
                raise FetchFailed(f"larger than {self._rules.max_bytes} bytes", final=True)
        return bytes(content)


def allowed_url(url: str, rules: FetchRules) -> httpx.URL:
    """Check a URL before it is fetched.

    Raises:
        FetchFailed: final, when scheme or host are not allowed.
    """
    try:
        parsed = httpx.URL(url)
        scheme, host = parsed.scheme, parsed.host
    except (httpx.InvalidURL, ValueError) as failure:
        raise FetchFailed("not a URL", final=True) from failure
    if scheme in _PORTS and _address(host, parsed.port or _PORTS[scheme]) in rules.loopback_hosts:
        return parsed
    if scheme != "https":
        raise FetchFailed(f"scheme {scheme!r} is not https", final=True)
    if _is_private_literal(host) or not _has_suffix(host, rules.host_suffixes):
        raise FetchFailed(f"host {host!r} is not among upstream.image_hosts", final=True)
    return parsed


def inspect(content: bytes) -> PictureBytes:
    """Read type and pixels from the bytes.

    Raises:
        FetchFailed: not a PNG, JPEG or WebP picture, or a damaged one; the CDN may do better next time.
    """
    try:
        with Image.open(io.BytesIO(content), formats=tuple(_MEDIA)) as image:
            media, (width, height) = _MEDIA[image.format or ""], image.size
            image.verify()
    except _DAMAGED as failure:
        raise FetchFailed(f"not a picture: {content[:16]!r}") from failure
    if not _WHOLE[media](content):
        raise FetchFailed(f"only a part of a {media} picture")
    return PictureBytes(content=content, media=media, width=width, height=height)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _joined(url: httpx.URL, location: str) -> str:
    try:
        return urljoin(str(url), location)
    except ValueError as failure:
        raise FetchFailed("redirected to what is not a URL", final=True) from failure


def _has_suffix(host: str, suffixes: tuple[str, ...]) -> bool:
    return any(host == suffix or host.endswith("." + suffix) for suffix in suffixes)


def _is_private_literal(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        return False
