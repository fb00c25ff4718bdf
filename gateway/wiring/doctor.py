"""Examines an installation part by part; what one part says or keeps silent about holds up no other."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from pathlib import Path

from redis.exceptions import RedisError

from gateway.adapters import machine
from gateway.adapters.glm.client import GlmImage
from gateway.adapters.glm.proxies import Proxies
from gateway.adapters.glm.transport import HttpTransport
from gateway.adapters.redis import checkup as redis_checkup
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.embedded import EmbeddedServer, find_server
from gateway.adapters.sql import checkup as sql_checkup
from gateway.adapters.sql import engine as sql
from gateway.domain.checkup import Finding, warning, well, wrong
from gateway.domain.errors import GatewayError
from gateway.domain.upstream import Account
from gateway.service.administer_upstreams import BUSY, probe
from gateway.service.offers import Offer
from gateway.service.picture_ports import PictureGone, PictureStoreDown
from gateway.settings import Settings, environment
from gateway.wiring.checking import check
from gateway.wiring.peppers import Peppers, read_peppers
from gateway.wiring.store import open_objects
from gateway.wiring.upstreams import endpoints_of

SECONDS, UPSTREAM_SECONDS = 10.0, 30.0  # that one part may take
TRIAL = b"glm-gateway doctor"


async def examine(settings: Settings) -> list[Finding]:
    """Examine everything at once; the findings come in the order of the parts."""
    parts = {
        "settings": _settings,
        machine.DATA_DIR: _machine,
        redis_checkup.PART: _redis,
        sql_checkup.PART: _database,
        "store": _store,
    }
    found = await asyncio.gather(*(bounded(name, part(settings)) for name, part in parts.items()), _upstreams(settings))
    return [finding for findings in found for finding in findings]


async def bounded(part: str, examination: AsyncIterator[Finding], seconds: float = SECONDS) -> list[Finding]:
    """Give what a part says in time; a failure that it does not know itself is a finding, too."""
    found: list[Finding] = []
    try:
        async with asyncio.timeout(seconds):
            async for finding in examination:
                found.append(finding)  # noqa: PERF401 - what was found in time counts
    except TimeoutError:
        found.append(
            wrong(part, f"No answer within {seconds:g} s.", "See whether it runs and can be reached from here.")
        )
    except GatewayError as failure:
        found.append(wrong(part, failure.message, "Set it right, and ask again."))
    except Exception as failure:  # noqa: BLE001 - the other parts are examined all the same
        known = isinstance(failure, RedisError | OSError)
        said = f"{type(failure).__name__}: {failure}" if known else type(failure).__name__
        found.append(
            wrong(part, f"It cannot be examined ({said}).", "See whether it runs and can be reached from here.")
        )
    return found


async def _settings(settings: Settings) -> AsyncIterator[Finding]:
    offer = check(settings)
    yield well("settings", f"{len(offer.accounts)} upstreams for {', '.join(offer.catalog.models)}.")


async def _machine(settings: Settings) -> AsyncIterator[Finding]:
    for finding in (*machine.examine_data_dir(settings.data_dir), *machine.examine_spool(settings.data_dir / "spool")):
        yield finding
    calls = sum(upstream.most_calls for upstream in settings.upstreams)
    yield machine.examine_files(settings.queue.max_jobs, calls)


async def _redis(settings: Settings) -> AsyncIterator[Finding]:
    part, url = redis_checkup.PART, settings.redis.url.reveal()
    if not url and not (url := EmbeddedServer(settings.data_dir).running_url() or ""):
        yield well(part, f"An embedded server is started with the gateway ({Path(find_server()).name}).")
        return
    async with aclosing(RedisClient(url)) as client:
        try:
            await client.ping()
        except (RedisError, OSError) as failure:
            advice = "Start it, or set REDIS_URL right; quota.on_outage says what clients get meanwhile."
            yield wrong(part, f"{client.where} cannot be used: {failure}.", advice)
            return
        yield await redis_checkup.version(client)
        for finding in await redis_checkup.durability(client):
            yield finding
        yield await redis_checkup.writing(client)
        yield await redis_checkup.topology(client, settings.redis.wait_replicas)
        yield await redis_checkup.clock(client)


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    url, own = settings.database.url.reveal(), settings.data_dir / "gateway.db"
    if not url and not own.exists():
        yield well(sql_checkup.PART, f"{own} is made when the gateway starts.")
        return
    has_secret = settings.secret_key or (settings.data_dir / "secret.key").exists()
    peppers = read_peppers(settings) if has_secret else Peppers(())
    engine = sql.open_engine(url or f"sqlite:///{own}")
    try:
        for finding in await sql_checkup.examine(engine, peppers.checks, peppers.marks):
            yield finding
    finally:
        await sql.close(engine)


async def _store(settings: Settings) -> AsyncIterator[Finding]:
    part, where = "store", settings.store.url or str(settings.data_dir / "store")
    if not settings.store.url and not settings.data_dir.exists():
        yield well(part, f"{where} is made when the gateway starts.")
        return
    objects, key = open_objects(settings), f"doctor-{secrets.token_hex(8)}"
    try:
        await objects.probe()
        await objects.put(key, TRIAL, "text/plain")
        whole = await objects.read(key, 0, len(TRIAL)) == TRIAL
        await objects.delete(key)
    except (PictureStoreDown, PictureGone) as failure:
        yield wrong(
            part, f"{where} cannot be written, read and deleted: {failure}.", "See store.url, and AWS_* for S3."
        )
        return
    if not whole:
        yield wrong(part, f"{where} gives back other bytes than it was given.", "Use another store.")
    elif settings.redis.url and not settings.store.url.startswith("s3:"):
        advice = "With several replicas, let store.url name a bucket, or a folder that all of them share."
        yield warning(part, f"{where} is written, read and deleted; it is on this machine.", advice)
    else:
        yield well(part, f"{where} is written, read and deleted.")


async def _upstreams(settings: Settings) -> list[Finding]:
    """Ask each account whether it accepts its key; nothing is made or paid."""
    try:
        offer = check(settings)
    except GatewayError:
        return []  # said of the settings
    async with aclosing(HttpTransport(proxies=Proxies(environment()))) as transport:
        upstream = GlmImage(transport, endpoints_of(settings))
        found = await asyncio.gather(*(_upstream(upstream, offer, account) for account in offer.accounts))
    return [finding for findings in found for finding in findings]


def _upstream(upstream: GlmImage, offer: Offer, account: Account) -> Awaitable[Sequence[Finding]]:
    part = f"upstream {account.name}"

    async def ask() -> AsyncIterator[Finding]:
        verdict = await probe(upstream, account, tuple(offer.catalog.models.values()))
        said = f"{verdict.said} (code {verdict.code})" if verdict.code else verdict.said
        if verdict.well:
            yield well(part, said)
        elif verdict.code in BUSY:
            yield warning(part, said, "It is busy now; ask again later.")
        else:
            advice = f"See its key, plan and balance; 'glm-gateway upstreams test {account.name}' asks again."
            yield wrong(part, said, advice)

    return bounded(part, ask(), UPSTREAM_SECONDS)
