"""(j) What a request costs while keys and remembered results become more: CPU, and scripts that Redis runs for it."""

import asyncio
import json
import time
from dataclasses import replace

import msgspec
import redis

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.plans import Told, encode_told, place_of
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.caching import Sought, plan_name
from gateway.domain.flights import End
from gateway.domain.image import ImagePlan, PaidPicture, Picture
from tests import builders, servers
from tests.bench import peers
from tests.bench.cost import cpu_seconds
from tests.bench.load import Load, Target
from tests.bench.scenarios import AT_ONCE, SETTLE_SECONDS, WARM_SECONDS
from tests.bench.stage import ADMIN, PATH

FEWEST, KEYS, BATCH = 1000, 1000, 500
LIFETIME_MS = 86_400_000


async def grown(stage, most, seconds):
    """Give lines of the report: hits and misses with few and many keys and results."""
    gateway, lines, results = stage.gateway("upstream", database=f"sqlite:///{stage.folder}/growth.db"), [], 0
    secrets = [gateway.key]
    for size in sorted({FEWEST, most}):
        await _remember(gateway, results, size)
        results = size
        lines += [await _measured(gateway, secrets, results, seconds, kind) for kind in ("hit", "miss")]
    secrets = _more_keys(gateway)
    lines += [await _measured(gateway, secrets, results, seconds, kind) for kind in ("hit", "miss")]
    return lines


async def _measured(gateway, secrets, results, seconds, kind):
    """Load with all keys in turn; hits go through all results, and misses are new."""
    pid, new = gateway.process.popen.pid, time.time_ns() % 10**9 * 1000
    number = (lambda n: n % results) if kind == "hit" else (lambda n: new + results + n)
    body = peers.order("glm-image", response_format="url")
    heads = [{"authorization": f"Bearer {secret}"} for secret in secrets]
    target = Target(kind, gateway.url + PATH, lambda n: heads[n % len(heads)], lambda n: body(number(n)), pid)
    load = Load(target)
    await load.closed(AT_ONCE, WARM_SECONDS)
    with redis.Redis.from_url(gateway.env["REDIS_URL"]) as store:
        scripts, spent = _scripts(store), cpu_seconds(pid)
        answers = await load.closed(AT_ONCE, seconds)
        await asyncio.sleep(SETTLE_SECONDS)
        scripts, spent = _scripts(store) - scripts, cpu_seconds(pid) - spent
    load.close()
    assert set(answers.statuses) == {200}
    said = f"{spent / answers.count * 1000:.3f} ms of CPU, {scripts / answers.count:.2f} scripts"
    return f"(j) {kind:<4} {len(secrets):>5} keys, {results:>9,} results: {said}"


def _scripts(store):
    calls = store.info("commandstats")
    return sum(calls.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval"))


async def _remember(gateway, first, last):
    """Let the script that remembers pictures do it, without making them."""
    [project] = json.loads(servers.glm_gateway("projects", "list", "--json", env=gateway.env).stdout)
    client = RedisClient(gateway.env["REDIS_URL"])
    scripts = Scripts(client)
    await client.ping()
    for start in range(first, last, BATCH):
        await asyncio.gather(
            *(_remember_one(scripts, project["id"], number) for number in range(start, min(start + BATCH, last)))
        )
    await client.aclose()


async def _remember_one(scripts, project_id, number):
    prompt = json.loads(peers.order("glm-image")(number))["prompt"]
    plan = plan_name(ImagePlan(model="glm-image", prompt=prompt, size="1280x1280", quality="hd"))
    place = place_of(replace(builders.a_claim(project_id=project_id), sought=Sought(plan=plan, scope="project")))
    picture = Picture(paid=PaidPicture(url=f"http://127.0.0.1/{number}.png"), account="zhipuai-1", image=None)
    end = msgspec.json.encode(End(picture=picture)).decode()
    told = Told(clear=[], ends=[(0, end, True)], lifetime=LIFETIME_MS, most=10**7, replayable=True)
    keys = [place.results, place.flights, place.index, place.names.of("clock")]
    await scripts.run("land", keys, [f"req_{number}", encode_told(told, place)], 30)


def _more_keys(gateway):
    """Make keys as many, through the administration API."""
    url = f"{gateway.base_url}/organization/projects"
    project = json.loads(servers.http("GET", url, headers=ADMIN)[2])["data"][0]["id"]
    made = (
        servers.http("POST", f"{url}/{project}/service_accounts", body={"name": f"key {number}"}, headers=ADMIN)
        for number in range(KEYS)
    )
    return [json.loads(content)["api_key"]["value"] for _, _, content in made]
