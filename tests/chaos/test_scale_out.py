"""Three gateways on a Redis Cluster, PostgreSQL and S3 behind a balancer; one of them and a Redis master are killed."""

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256

import pytest
from openai import AsyncOpenAI, RateLimitError

from tests import postgres_servers, redis_servers, servers
from tests.chaos.account import HOME, check_lines, lines_of
from tests.chaos.balancer import balancer
from tests.chaos.load import until
from tests.fleet import fleet_on
from tests.s3_server import s3_server

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
log = logging.getLogger(__name__)
SMALL = "512x512"
CALLS, SECONDS = 300, 12.0
POPULAR = 10  # prompts that every third call asks for
LIMIT = 30  # images per day of a key that asks for 50
PLENTY = 10**6
LATENCY = 1.0
LEASE = 8  # seconds that a killed gateway's jobs wait for another one
SETTINGS = {"GLM_GATEWAY_CACHE__SCOPE": "project", "GLM_GATEWAY_QUOTA__LEASE": str(LEASE)}


@pytest.fixture
def anyio_backend():
    """The clients' loop: httpx trips over connections that end while they are made on uvloop."""
    return "asyncio"


@pytest.fixture
def upstream(tmp_path):
    with servers.simulator(tmp_path, latency=LATENCY) as running:
        yield running


@pytest.fixture
def fleet(tmp_path, upstream):
    parts = (
        postgres_servers.postgres_server(tmp_path),
        s3_server(tmp_path),
        redis_servers.redis_cluster(tmp_path / "redis"),
    )
    with ExitStack() as stack:
        with ThreadPoolExecutor() as starters:
            database, s3, cluster = starters.map(stack.enter_context, parts)
        store = {"GLM_GATEWAY_STORE__URL": f"s3://{s3.make_bucket('pictures')}/scale", **s3.env}
        settings = {"DATABASE_URL": database, **store, **SETTINGS}
        yield stack.enter_context(fleet_on(cluster.url, cluster, tmp_path, upstream, 3, **settings))


@dataclass(frozen=True)
class Answer:
    """What a call got; without a URL it was refused by its key's limit."""

    prompt: str
    url: str | None = None
    request_id: str | None = None


class Crowd:
    """Users of OpenAI's SDK as it comes, with its own time-outs and retries; answers by the name of the key."""

    def __init__(self, address, secrets):
        self._clients = {name: AsyncOpenAI(base_url=f"{address}/v1", api_key=key) for name, key in secrets.items()}
        self.answers = {name: [] for name in secrets}

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    async def ask_all(self):
        """Send the calls at an even pace, whether the last ones have been answered or not."""
        async with asyncio.TaskGroup() as calls:
            for number in range(CALLS):
                calls.create_task(self.ask(*call_of(number)))
                await asyncio.sleep(SECONDS / CALLS)

    async def ask(self, name, prompt):
        images = self._clients[name].images.with_raw_response
        try:
            raw = await images.generate(prompt=prompt, size=SMALL, response_format="url")
        except RateLimitError as refused:
            if (name, refused.code) != ("limited", "insufficient_quota"):
                raise
            answer = Answer(prompt)
        else:
            answer = Answer(prompt, raw.parse().data[0].url, raw.headers["x-request-id"])
        self.answers[name].append(answer)

    def served(self, *names):
        """The answers with a picture, of these keys or all."""
        return [answer for name in names or self.answers for answer in self.answers[name] if answer.url]

    @property
    def answered(self):
        return sum(map(len, self.answers.values()))


def call_of(number):
    """Give whose call it is, and its prompt: every third is of a few that all ask for, every sixth has a limit."""
    if number % 3 == 0:
        return "roomy", f"popular {number // 3 % POPULAR}"
    return "limited" if number % 6 == 5 else "roomy", f"number {number}"


async def test_a_gateway_and_a_redis_master_are_killed_under_a_load(fleet, upstream):
    limits = {"roomy": PLENTY, "limited": LIMIT}
    keys = {name: fleet.key("--images-per-day", str(limit)) for name, limit in limits.items()}
    secrets = {name: secret for name, (_, secret) in keys.items()}
    async with balancer(fleet.gateways) as address, Crowd(address, secrets) as crowd:
        async with asyncio.TaskGroup() as all_at_once:
            all_at_once.create_task(crowd.ask_all())
            kills = all_at_once.create_task(killed(fleet, crowd))
        assert crowd.served("roomy") == crowd.answers["roomy"]
        await settled(fleet)
        await the_rest_of_the_limit(crowd)
    await asyncio.to_thread(made_whole, fleet, kills.result())
    await settled(fleet)
    lines = {name: await lines_of(fleet.env["DATABASE_URL"], key_id) for name, (key_id, _) in keys.items()}
    made = upstream.images()
    check_account([line for of_key in lines.values() for line in of_key], made, crowd)
    left = {name: limits[name] - delivered(of_key) for name, of_key in lines.items()}
    assert left == {name: pictures_left(fleet.gateways[1], secret) for name, secret in secrets.items()}
    assert left["limited"] == 0
    await asyncio.to_thread(check_pictures, fleet.gateways[1:], made, crowd.served())


async def killed(fleet, crowd):
    """Kill a gateway, and when some more has been answered a master of the Cluster, which is given."""
    await until(lambda: crowd.answered >= CALLS / 5)
    fleet.gateways[0].process.stop(signal.SIGKILL)
    log.warning("a gateway killed after %d answers", crowd.answered)
    await until(lambda: crowd.answered >= CALLS * 2 / 5)
    master = await asyncio.to_thread(fleet.redis.master_of, HOME.of("epoch"))
    master.kill()
    log.warning("a master killed after %d answers", crowd.answered)
    return master


async def settled(fleet):
    """Wait until nothing is under way and the ledger has all lines."""

    def rests():
        master = fleet.redis.master_of(HOME.of("events"))
        return master.ask("KEYS", HOME.of("held", "*")) == [] and master.ask("XLEN", HOME.of("events")) == 0

    await asyncio.to_thread(servers.wait_until, rests, what="the ledger")


async def the_rest_of_the_limit(crowd):
    """Ask for what is left of the limit, and for one more."""
    assert len(crowd.served("limited")) <= LIMIT
    for number in range(LIMIT - len(crowd.served("limited")) + 1):
        await crowd.ask("limited", f"rest {number}")
    assert len(crowd.served("limited")) == LIMIT


def made_whole(fleet, master):
    """Start the master again, and wait until what no replica could confirm waits on no gateway's disk any more."""
    master.start()
    for gateway in fleet.gateways[1:]:
        servers.wait_until(lambda at=gateway: list(at.data_dir.glob("spool/*")) == [], what="the spool")
        assert "Traceback" not in gateway.process.output()


def check_account(lines, made, crowd):
    """Besides the account: every picture that was answered is charged once, and no other is."""
    said = check_lines(lines, made, {answer.request_id for answer in crowd.served()})
    assert said["hit"] > 0
    assert delivered(lines) == len({answer.prompt for answer in crowd.served()})


def delivered(lines):
    return sum(line.pictures_delivered for line in lines)


def pictures_left(gateway, secret):
    """What Redis says is left of a key's limit, as told with a picture that is remembered and takes nothing of it."""
    status, headers, content = gateway.post({"prompt": "popular 0", "size": SMALL}, key=secret)
    assert (status, headers["x-glm-cache"]) == (200, "HIT"), content
    return int(headers["x-ratelimit-remaining-images"])


def check_pictures(gateways, made, answers):
    """Each URL opens the picture that was made of its prompt, on every gateway that is left."""
    known = {(picture["prompt"], picture["sha256"]) for picture in made}
    urls = {(answer.prompt, answer.url[answer.url.index("/v1/") :]) for answer in answers}

    def opened(asked):
        gateway, (prompt, path) = asked
        status, _, content = servers.http("GET", gateway.url + path)
        return status, (prompt, sha256(content).hexdigest()) in known

    with ThreadPoolExecutor(8) as readers:
        asked = [(gateway, url) for gateway in gateways for url in urls]
        assert set(readers.map(opened, asked)) == {(200, True)}
