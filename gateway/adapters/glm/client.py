"""One paid picture from GLM-Image over HTTP: in one call, or ordered and asked for until it is there."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, repeat
from typing import Any, Literal, TypeVar, cast

import httpx

from gateway import __version__
from gateway.adapters.glm import wire
from gateway.domain.image import ImagePlan, PaidPicture
from gateway.domain.upstream import Account, CallFailure, Fault
from gateway.service.ports_upstream import CallFailed, Submitted

CONNECT_SECONDS = 10.0
PROBE_SECONDS = 20.0  # GLM refuses at once
REMEMBERED_URLS = 256
LARGEST_ANSWER = 1024 * 1024  # an answer has some 500 bytes
USER_AGENT = f"glm-image-gateway/{__version__}"
# Seconds before each question for a result; the last one from then on. A picture takes 10 to 70 seconds.
POLL_WAITS, POLL_EVERY = (1.0, 1.0, 2.0, 3.0), 5.0
POLL_JITTER = 0.2  # so that a burst of orders does not become a burst of questions
POLL_SECONDS = 15.0  # that one answer may take: it says only how far the picture is
NOTHING_WAS_SENT = httpx.ConnectError, httpx.ConnectTimeout
Mode = Literal["sync", "async"]
Sleep = Callable[[float], Awaitable[None]]
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an account is called, with which key and in which way, and the seconds that a picture may take."""

    base_url: str
    api_key: str = field(repr=False)
    timeout: float
    mode: Mode = "sync"

    headers: httpx.Headers = field(init=False, repr=False)
    post_headers: httpx.Headers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Write the headers once: httpx needs 15 us for them, and writes its own Host in front."""
        said = {
            "Host": httpx.URL(self.base_url).netloc.decode("ascii"),
            "Authorization": f"Bearer {self.api_key}",
            "Accept": "*/*",  # every client says so: firewalls look askance at one that does not
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        object.__setattr__(self, "headers", httpx.Headers(said))
        object.__setattr__(self, "post_headers", httpx.Headers({**said, "Content-Type": "application/json"}))

    def orders(self, model: str) -> bool:
        """Tell whether a picture is ordered and asked for; GLM does that for some models only."""
        return self.mode == "async" and model in wire.ASYNC_MODELS


class GlmImage:
    """The upstream port over one transport; `endpoints` are by the name of the account, and may be replaced."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, endpoints: Mapping[str, Endpoint], sleep: Sleep = asyncio.sleep
    ) -> None:
        self._transport = transport
        self.endpoints = endpoints
        self._sleep = sleep

    async def make(self, account: Account, plan: ImagePlan, submitted: Submitted) -> PaidPicture:
        """Make and pay one picture; see the port for what is raised."""
        endpoint = self.endpoints[account.name]
        orders = endpoint.orders(plan.model)
        call = self._ordered(account, endpoint, plan, submitted) if orders else self._made(endpoint, plan)
        return await _paid(endpoint, call)

    async def resume(self, account: Account, task_id: str) -> PaidPicture:
        """Go on asking for a picture that was ordered; see the port for what is raised."""
        endpoint = self.endpoints[account.name]
        return await _paid(endpoint, self._result(account, endpoint, task_id))

    async def probe(self, account: Account, model: str) -> CallFailure:
        """Order a picture without a prompt, which is refused before anything is made; see the port."""
        endpoint = self.endpoints[account.name]
        path = wire.ASYNC_PATH if endpoint.orders(model) else wire.PATH
        try:
            asking = self._send(endpoint, path, PROBE_SECONDS, wire.probe_body(model))
            paid = wire.read_answer(*await _paid(endpoint, asking))
        except CallFailed as refused:
            return refused.failure
        return CallFailure(fault=Fault.CUT, code="", status=200, detail=f"made a picture of nothing: {paid.request_id}")

    async def _made(self, endpoint: Endpoint, plan: ImagePlan) -> PaidPicture:
        """Make a picture in one call. Its body may take as long as the call: GLM answers when the picture is made."""
        return wire.read_answer(*await self._send(endpoint, wire.PATH, endpoint.timeout, wire.request_body(plan)))

    async def _ordered(
        self, account: Account, endpoint: Endpoint, plan: ImagePlan, submitted: Submitted
    ) -> PaidPicture:
        """Order a picture, and ask for it until it is there."""
        body = wire.request_body(plan)
        task_id = wire.read_task(*await self._send(endpoint, wire.ASYNC_PATH, endpoint.timeout, body))
        await submitted(task_id)
        return await self._result(account, endpoint, task_id)

    async def _result(self, account: Account, endpoint: Endpoint, task_id: str) -> PaidPicture:
        """Ask until there is a result. A question without an answer says nothing of the picture."""
        for wait in chain(POLL_WAITS, repeat(POLL_EVERY)):
            await self._sleep(wait * random.uniform(1 - POLL_JITTER, 1 + POLL_JITTER))  # noqa: S311 - no secret
            try:
                status, content = await self._send(endpoint, wire.result_path(task_id), POLL_SECONDS)
            except httpx.TransportError:
                continue
            if status == httpx.codes.UNAUTHORIZED:  # the key may have been replaced since the order
                endpoint = self._successor(account, endpoint)
            if paid := wire.read_result(task_id, status, content):
                return paid
        raise AssertionError("endless")

    def _successor(self, account: Account, ordered: Endpoint) -> Endpoint:
        """Give the account with the key that it has now; one that is called elsewhere is another account."""
        now = self.endpoints.get(account.name, ordered)
        return now if now.base_url == ordered.base_url else ordered

    async def _send(
        self, endpoint: Endpoint, path: str, seconds: float, body: bytes | None = None
    ) -> tuple[int, bytes]:
        """Post a body, or get what there is; `seconds` bound every wait for a piece of the answer."""
        request = _request(endpoint, path, body)
        request.extensions["timeout"] = {"connect": CONNECT_SECONDS, "read": seconds}
        response = await self._transport.handle_async_request(request)
        stream = cast("httpx.AsyncByteStream", response.stream)  # read as it is: the answer's own way takes 6 us more
        try:
            return response.status_code, await _whole(stream)
        finally:
            await stream.aclose()


@lru_cache(REMEMBERED_URLS)
def _url(url: str) -> httpx.URL:
    """Take a URL apart once: httpx needs 20 us for it."""
    return httpx.URL(url)


def _request(endpoint: Endpoint, path: str, body: bytes | None) -> httpx.Request:
    """Write a request as httpx does, which takes 20 us for a body of which it does not know the headers yet."""
    url = _url(endpoint.base_url.rstrip("/") + path)
    if body is None:
        return httpx.Request("GET", url, headers=endpoint.headers)
    request = httpx.Request("POST", url, headers=endpoint.post_headers, stream=httpx.ByteStream(body))
    request.headers["Content-Length"] = str(len(body))
    return request


async def _whole(stream: httpx.AsyncByteStream) -> bytes:
    content = bytearray()
    async for chunk in stream:
        content += chunk
        if len(content) > LARGEST_ANSWER:
            raise httpx.RemoteProtocolError("the answer is larger than any answer of GLM's")
    return bytes(content)


async def _paid(endpoint: Endpoint, call: Coroutine[Any, Any, Result]) -> Result:
    """Bound a call in time, and tell what was not sent from what may be paid."""
    try:
        async with asyncio.timeout(endpoint.timeout):
            return await call
    except (httpx.TransportError, TimeoutError) as failure:
        fault = Fault.UNREACHABLE if isinstance(failure, NOTHING_WAS_SENT) else Fault.CUT
        detail = f"{type(failure).__name__}: {failure}"
        raise CallFailed(CallFailure(fault=fault, code="", status=0, detail=detail)) from failure
