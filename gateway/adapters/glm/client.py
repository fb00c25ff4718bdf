"""One paid call to GLM-Image over HTTP."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from gateway import __version__
from gateway.adapters.glm import wire
from gateway.domain.errors import UpstreamUnreachable
from gateway.domain.image import ImagePlan, PaidPicture
from gateway.domain.upstream import Account, CallFailure, Fault
from gateway.service.ports import CallFailed

CONNECT_SECONDS = 10.0
LARGEST_ANSWER = 1024 * 1024  # an answer has some 500 bytes
USER_AGENT = f"glm-image-gateway/{__version__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an account is called, with which key, and the seconds that a picture may take."""

    base_url: str
    api_key: str = field(repr=False)
    timeout: float


class GlmImage:
    """The upstream port over one transport; `endpoints` are by the name of the account."""

    def __init__(self, transport: httpx.AsyncBaseTransport, endpoints: Mapping[str, Endpoint]) -> None:
        self._transport = transport
        self._endpoints = endpoints

    async def make(self, account: Account, plan: ImagePlan) -> PaidPicture:
        """Make and pay one picture; see the port for what is raised."""
        endpoint = self._endpoints[account.name]
        request = self._request(endpoint, plan)
        try:
            async with asyncio.timeout(endpoint.timeout):
                status, content = await self._send(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as failure:
            raise UpstreamUnreachable(
                "The upstream cannot be reached. Nothing was charged; try again after a short wait.",
            ) from failure
        except (httpx.TransportError, TimeoutError) as failure:
            detail = f"{type(failure).__name__}: {failure}"
            raise CallFailed(CallFailure(fault=Fault.CUT, code="", status=0, detail=detail)) from failure
        return wire.read_answer(status, content)

    def _request(self, endpoint: Endpoint, plan: ImagePlan) -> httpx.Request:
        # The body may take as long as the call: GLM answers only when the picture is made.
        return httpx.Request(
            "POST",
            endpoint.base_url.rstrip("/") + wire.PATH,
            headers={
                "Authorization": f"Bearer {endpoint.api_key}",
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": USER_AGENT,
            },
            content=wire.request_body(plan),
            extensions={"timeout": {"connect": CONNECT_SECONDS, "read": endpoint.timeout}},
        )

    async def _send(self, request: httpx.Request) -> tuple[int, bytes]:
        response = await self._transport.handle_async_request(request)
        content = bytearray()
        try:
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > LARGEST_ANSWER:
                    raise httpx.RemoteProtocolError("the answer is larger than any answer of GLM's")
        finally:
            await response.aclose()
        return response.status_code, bytes(content)
