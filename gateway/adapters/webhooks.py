"""Posts events in the form of Standard Webhooks (standardwebhooks.com), and trusts nothing that comes back."""

import asyncio

import httpx
from standardwebhooks import Webhook

from gateway import __version__
from gateway.domain.errors import InvalidValue
from gateway.domain.webhooks import parse_url
from gateway.service.ports_alerts import Post, Sent

SECONDS = 15.0
_WELL = range(200, 300)
_LONGEST_ERROR = 200


class HttpWebhookSender:
    """The way to receivers over one transport, which follows no redirects and resolves names to public addresses.

    With `allow_private` it may be one that resolves all. A post may take `seconds` until the answer's status is there.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, *, allow_private: bool, seconds: float = SECONDS) -> None:
        self._transport = transport
        self._allow_private = allow_private
        self._seconds = seconds

    async def send(self, post: Post) -> Sent:
        """Post an event. The answer's body is not read: its status says all, and it is nobody's to log."""
        try:
            request = self._request(post)  # checked each time: the setting may have changed since the URL was stored
            async with asyncio.timeout(self._seconds):
                response = await self._transport.handle_async_request(request)
                await response.aclose()
        except TimeoutError:
            return Sent(None, f"no answer within {self._seconds:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, InvalidValue) as failure:
            return Sent(None, _said(failure, post.url))
        status = response.status_code
        return Sent(status) if status in _WELL else Sent(status, f"status {status}")

    def _request(self, post: Post) -> httpx.Request:
        body = post.body.encode()
        url = httpx.URL(parse_url(post.url, allow_private=self._allow_private))
        return httpx.Request("POST", url, content=body, headers=_headers(post))


def _headers(post: Post) -> dict[str, str]:
    """Sign with each secret: a receiver takes what one of them verifies."""
    signatures = [Webhook(secret).sign(post.id, post.at, post.body) for secret in post.secrets]
    return {
        "accept": "*/*",
        "content-type": "application/json",
        "user-agent": f"glm-gateway/{__version__}",
        "webhook-id": post.id,
        "webhook-timestamp": str(int(post.at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _said(failure: Exception, url: str) -> str:
    """Say what went wrong without the URL, which may hold a token."""
    return f"{type(failure).__name__}: {failure}".replace(url, "the URL")[:_LONGEST_ERROR]
