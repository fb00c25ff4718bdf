"""Clients of a whole installation, as OpenAI's SDK behind a balancer: what is cut is sent again, elsewhere."""

import asyncio
import itertools
import time
from contextlib import asynccontextmanager

import httpx
from openai import APIConnectionError, APIStatusError, AsyncOpenAI


class Balancer(httpx.AsyncBaseTransport):
    """Sends each request to the next gateway, and one that takes no connection to the one after it."""

    def __init__(self, gateways):
        self._urls = [httpx.URL(gateway.url) for gateway in gateways]
        self._turn = itertools.cycle(range(len(gateways)))
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request):
        for left in reversed(range(len(self._urls))):
            url = self._urls[next(self._turn)]
            request.url = request.url.copy_with(host=url.host, port=url.port)
            try:
                return await self._transport.handle_async_request(request)
            except httpx.ConnectError:
                if not left:
                    raise
        raise NotImplementedError

    async def aclose(self):
        await self._transport.aclose()


@asynccontextmanager
async def sdk(gateways, secret):
    """OpenAI's client with its own time-outs and retries."""
    async with (
        httpx.AsyncClient(transport=Balancer(gateways), timeout=600) as http,
        AsyncOpenAI(base_url="http://gateways/v1", api_key=secret, http_client=http) as client,
    ):
        yield client


class Crowd:
    """Asks for one picture of each prompt, `seconds` long at an even pace; `answers` are by prompt.

    An answer is the request's id, or of a failure its status and code, or None when no gateway could be reached.
    """

    def __init__(self, client, prompts, seconds):
        self._client = client
        self._prompts = prompts
        self._pace = seconds / len(prompts)
        self.answers = {}

    async def ask_all(self):
        """Let all clients have their answers."""
        start = time.monotonic()
        async with asyncio.TaskGroup() as clients:
            for number, prompt in enumerate(self._prompts):
                await asyncio.sleep(start + number * self._pace - time.monotonic())
                clients.create_task(self._ask(prompt))

    async def _ask(self, prompt):
        options = {"size": "512x512", "response_format": "url"}
        try:
            raw = await self._client.images.with_raw_response.generate(prompt=prompt, **options)
        except APIStatusError as refused:
            self.answers[prompt] = (refused.status_code, refused.code)
        except APIConnectionError:
            self.answers[prompt] = None
        else:
            self.answers[prompt] = raw.headers["x-request-id"]
            assert len(raw.parse().data) == 1

    @property
    def served(self):
        """The request ids of those that got their picture."""
        return {answer for answer in self.answers.values() if isinstance(answer, str)}

    @property
    def failures(self):
        """The statuses and codes of those that did not."""
        return {answer for answer in self.answers.values() if not isinstance(answer, str)}
