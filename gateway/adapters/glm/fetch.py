"""Downloads what the upstream made, without trusting the URL, the name or the headers (glm-image-api.md section 6)."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urljoin

import httpx

from gateway.adapters.glm.drafts import Draft, Drafts
from gateway.adapters.glm.inspection import Damaged, inspect
from gateway.domain.addresses import is_public_host
from gateway.domain.image import ImageRef
from gateway.service.picture_ports import Download, FetchFailed

CONNECT_SECONDS = 5.0
MOST_REDIRECTS = 3
INSPECTIONS_AT_ONCE = 4  # each maps a whole picture into memory
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}


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

    def after(self, earlier: "FetchRules") -> "FetchRules":
        """Give these rules with the hosts of earlier ones, where pictures may lie that were paid before."""
        return replace(
            self,
            host_suffixes=tuple(dict.fromkeys((*self.host_suffixes, *earlier.host_suffixes))),
            loopback_hosts=tuple(dict.fromkeys((*self.loopback_hosts, *earlier.loopback_hosts))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """What was fetched, as long as its draft is there."""

    image: ImageRef
    draft: Draft

    @property
    def path(self) -> Path | None:
        """The file, unless the disk refused it."""
        return self.draft.path

    async def content(self) -> bytes:
        """Give all bytes."""
        return await asyncio.to_thread(self.draft.content)


class PictureDownloads:
    """The picture source over one transport. The bytes go to a file as they come: memory holds one piece of each.

    `rules` may be replaced.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, rules: FetchRules, drafts: Drafts) -> None:
        self._transport = transport
        self.rules = rules
        self._drafts = drafts
        self._inspections = asyncio.Semaphore(INSPECTIONS_AT_ONCE)

    @asynccontextmanager
    async def fetch(self, url: str) -> AsyncGenerator[Download]:
        """Download a picture; see the port for what is raised."""
        with self._drafts.draft() as draft:
            try:
                async with asyncio.timeout(self.rules.timeout):
                    await self._follow(url, draft)
            except (httpx.HTTPError, TimeoutError) as failure:
                raise FetchFailed(f"{type(failure).__name__}: {failure}") from failure
            async with self._inspections:
                image = await asyncio.to_thread(_inspected, draft)  # checksums over 2 MB: some milliseconds
            yield Downloaded(image=image, draft=draft)

    async def _follow(self, url: str, draft: Draft) -> None:
        """Follow redirects, each of which must be allowed as well."""
        target = url
        for _ in range(MOST_REDIRECTS + 1):
            location = await self._get(allowed_url(target, self.rules), draft)
            if location is None:
                return
            target = location
        raise FetchFailed(f"more than {MOST_REDIRECTS} redirects", final=True)

    async def _get(self, url: httpx.URL, draft: Draft) -> str | None:
        """Give where to look instead, or write the picture down. No key is sent: the CDN is another party."""
        request = httpx.Request(
            "GET",
            url,
            headers={"Accept": "image/*", "Accept-Encoding": "identity"},
            extensions={"timeout": {"connect": CONNECT_SECONDS, "read": self.rules.timeout}},
        )
        response = await self._transport.handle_async_request(request)
        try:
            if response.status_code in _REDIRECTS and "location" in response.headers:
                return _joined(url, response.headers["location"])
            if response.status_code != 200:  # noqa: PLR2004 - the only status of a whole picture
                raise FetchFailed(f"status {response.status_code}")
            await self._write(response, draft)
        finally:
            await response.aclose()
        return None

    async def _write(self, response: httpx.Response, draft: Draft) -> None:
        async for chunk in response.aiter_raw():
            if draft.bytes + len(chunk) > self.rules.max_bytes:
                raise FetchFailed(f"larger than {self.rules.max_bytes} bytes", final=True)
            draft.write(chunk)


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
    if not is_public_host(host) or not _has_suffix(host, rules.host_suffixes):
        raise FetchFailed(f"host {host!r} is not among upstream.image_hosts", final=True)
    return parsed


def _inspected(draft: Draft) -> ImageRef:
    """Read from the bytes what they are; the CDN may do better next time."""
    try:
        with draft.view() as content:
            media, (width, height) = inspect(content)
    except Damaged as damaged:
        raise FetchFailed(str(damaged)) from damaged
    return ImageRef(name=draft.sha256, media=media, width=width, height=height, bytes=draft.bytes)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _joined(url: httpx.URL, location: str) -> str:
    try:
        return urljoin(str(url), location)
    except ValueError as failure:
        raise FetchFailed("redirected to what is not a URL", final=True) from failure


def _has_suffix(host: str, suffixes: tuple[str, ...]) -> bool:
    return any(host == suffix or host.endswith("." + suffix) for suffix in suffixes)
