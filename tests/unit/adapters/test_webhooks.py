"""Events as they are posted: signed, to public hosts, without following, reading or waiting for what comes back."""

import asyncio
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.adapters.glm.transport import HttpTransport, PublicResolver
from gateway.adapters.webhooks import HttpWebhookSender
from gateway.service.ports_alerts import Post, Sent
from tests.receivers import receiving
from tests.servers import free_port

pytestmark = pytest.mark.anyio

SECRETS = ("whsec_" + "YWJj" * 8, "whsec_" + "ZGVm" * 8)


def a_post(url, **changes):
    ordinary = {"id": "msg_1", "at": datetime.now(UTC), "body": '{"type": "测试"}', "secrets": SECRETS}
    return Post(**{**ordinary, "url": url, **changes})


async def sent(post, *, allow_private=True, seconds=15.0):
    transport = HttpTransport(resolver=None if allow_private else PublicResolver())
    try:
        return await HttpWebhookSender(transport, allow_private=allow_private, seconds=seconds).send(post)
    finally:
        await transport.aclose()


@pytest.fixture
def receiver():
    with receiving() as running:
        yield running


async def test_each_secret_verifies_what_is_sent(receiver):
    assert await sent(a_post(receiver.url + "/hooks?a=b")) == Sent(200)
    assert [receiver.verified(secret) for secret in SECRETS] == [[{"type": "测试"}]] * 2
    [(path, headers, _)] = receiver.posts
    assert (path, headers["content-type"], headers["webhook-id"]) == ("/hooks?a=b", "application/json", "msg_1")
    assert headers["accept"] == "*/*"
    assert headers["user-agent"].startswith("glm-gateway/")
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "Z2hp" * 8).verify(receiver.posts[0][2], headers)


@pytest.mark.parametrize("status", [204, 302, 307, 410, 500])
async def test_the_status_is_told_and_nothing_is_followed(receiver, status):
    receiver.answers = [status]
    found = await sent(a_post(receiver.url))
    assert found.status == status
    assert found.error == (None if status == 204 else f"status {status}")
    assert len(receiver.posts) == 1


async def test_a_receiver_that_hangs_is_left_in_time(receiver):
    receiver.answers = [None]
    async with asyncio.timeout(30):
        assert await sent(a_post(receiver.url), seconds=0.3) == Sent(None, "no answer within 0.3 s")


async def test_an_answer_without_end_is_not_waited_for():
    async def drip(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    async def drop(reader, writer):
        try:
            await drip(reader, writer)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    async with server, asyncio.timeout(30):
        port = server.sockets[0].getsockname()[1]
        assert await sent(a_post(f"http://127.0.0.1:{port}/")) == Sent(200)


async def test_who_is_not_there_is_said_without_the_url():
    found = await sent(a_post(f"http://127.0.0.1:{free_port()}/hooks?token=secret"))
    assert found.status is None
    assert "ConnectError" in found.error
    assert "secret" not in found.error


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "localhost", "[::1]", "[::ffff:127.0.0.1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_hosts_that_are_not_public_are_not_reached(receiver, host, scheme):
    port = receiver.url.rpartition(":")[2]
    found = await sent(a_post(f"{scheme}://{host}:{port}/"), allow_private=False)
    assert found.status is None
    assert receiver.posts == []


async def test_a_name_that_leads_inside_is_not_reached(receiver, monkeypatch):
    async def inside(*_, **__):
        return [(2, 1, 6, "", ("127.0.0.1", 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", inside, raising=False)
    found = await sent(a_post("https://hooks.example.com/"), allow_private=False)
    assert found.status is None
    assert "not public" in found.error
