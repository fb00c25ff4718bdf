"""The ONE place that opens Redis, SQL and HTTP, and builds the use cases on them."""

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters import logs
from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.changes import Heard, RedisAnnouncer, listen
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.concerns import concerns
from gateway.adapters.redis.embedded import EmbeddedServer
from gateway.adapters.redis.names import CANCELS, CHANGES, JOBS, RELOADS
from gateway.adapters.redis.reloads import RedisReloads
from gateway.adapters.sql import engine as sql
from gateway.adapters.sql.installation import agree_on_secret
from gateway.adapters.sql.keys import SqlKeys
from gateway.adapters.system import SystemClock
from gateway.api.errors import answer_of
from gateway.api.services import Authenticated, Services
from gateway.domain.addresses import Address
from gateway.domain.errors import Misconfigured
from gateway.domain.keys import Caller
from gateway.domain.mapping import MappingRules
from gateway.service.authenticate import Authenticate
from gateway.service.books import Books
from gateway.service.deliver import Deliver
from gateway.service.jobs import end
from gateway.service.last_uses import LastUses
from gateway.service.links import PictureLinks
from gateway.service.offers import Offers
from gateway.service.slots import Slots
from gateway.service.tasks import Tasks
from gateway.service.webhooks import WebhookRules
from gateway.settings import Settings
from gateway.wiring.administering import administration_on
from gateway.wiring.alerting import alerting
from gateway.wiring.generation import Flow, open_flow, planner_of
from gateway.wiring.observing import observing, readiness_of, watching
from gateway.wiring.offers import offer_of
from gateway.wiring.peppers import Peppers, read_peppers
from gateway.wiring.quotas import Quotas, collecting, open_quotas
from gateway.wiring.reloading import Reload, Source, on_call
from gateway.wiring.tracing import open_tracing
from gateway.wiring.upstreams import Upstreams, open_upstreams


@contextmanager
def prepared(settings: Settings) -> Generator[Settings]:
    """Do before the loop starts what may block: logging, the data directory, the embedded Redis server.

    Raises:
        Misconfigured: in one sentence, what the operator has to change.
    """
    logs.configure(settings.log.level, settings.log.format, redacting=settings.log.redact)
    prepare_data_dir(settings.data_dir)
    if settings.redis.url:
        if not settings.store.url:
            logs.logger().warning("store_is_local", advice="With several replicas, set store.url to one they share.")
        yield settings
        return
    with EmbeddedServer(settings.data_dir).in_use() as url:
        yield settings.with_redis(url)


@asynccontextmanager
async def open_services(settings: Settings, source: Source | None = None) -> AsyncGenerator[Services]:
    """Open everything, give the use cases, close everything in reverse order. Without a source, settings stay.

    Raises:
        Misconfigured: a part cannot be reached or used.
    """
    offers, peppers, clock = Offers(offer_of(settings)), read_peppers(settings), SystemClock()
    async with AsyncExitStack() as stack:
        metrics, observer = stack.enter_context(observing(settings, clock))
        tracing = await stack.enter_async_context(open_tracing(settings))
        engine = await stack.enter_async_context(open_database(settings))
        await agree_on_secret(engine, peppers.checks)
        redis = await stack.enter_async_context(_open_redis(settings, observer))
        authenticate, authenticated = await stack.enter_async_context(_authenticating(engine, peppers, clock))
        quotas = await stack.enter_async_context(open_quotas(settings, engine, redis, clock, observer, tracing))
        upstreams = await stack.enter_async_context(open_upstreams(settings, offers, quotas, observer, tracing))
        books = _books(settings, peppers, observer)
        planner = planner_of(settings, offers, _mapping_rules(settings, peppers), books)
        flow = await stack.enter_async_context(open_flow(settings, planner, books, quotas, upstreams, observer))
        outage = await stack.enter_async_context(collecting(quotas, settings, flow.rescue, observer))
        await stack.enter_async_context(alerting(settings, engine, peppers.webhook_secrets, observer))
        announcer = RedisAnnouncer(redis, partial(observer.outage, "redis"))
        source = source or Source(settings=settings, read=lambda: settings)
        reload = Reload(source, settings, quotas, upstreams, observer)
        called = {RELOADS: on_call(reload, RedisReloads(redis, quotas.scripts), upstreams.errands)}
        await stack.enter_async_context(_listening(redis, authenticate, quotas, flow, upstreams, called))
        readiness = partial(readiness_of, redis, engine, upstreams, outage, flow.jobs)
        await stack.enter_async_context(watching(readiness, observer))
        yield Services(
            authenticate=authenticated,
            generate=flow.generate,
            tasks=Tasks(quotas.records),
            deliver=_deliver(settings, peppers, upstreams, clock),
            administration=administration_on(engine, announcer, peppers.keys, webhook_rules(settings, peppers)),
            offers=offers,
            currency=settings.billing.currency,
            readiness=readiness,
            render_metrics=metrics.render,
            requests=observer,
            traces=tracing.requests,
            trusted_proxies=settings.server.trusted_networks(),
            reload=reload,
            shut_down=partial(_shut_down, flow, upstreams.slots, settings.server.drain_seconds),
        )


async def _shut_down(flow: Flow, slots: Slots, seconds: float) -> None:
    """Take nothing new, release what is not sent, and wait for what is."""
    flow.jobs.closing = True
    flow.turns.close()
    slots.close()
    await flow.jobs.drain(seconds)


def _deliver(settings: Settings, peppers: Peppers, upstreams: Upstreams, clock: SystemClock) -> Deliver:
    links = PictureLinks(peppers.picture_urls, settings.store.url_life, clock, settings.server.public_url)
    return Deliver(upstreams.store, links)


def webhook_rules(settings: Settings, peppers: Peppers) -> WebhookRules:
    """Say how secrets of webhooks come about, and where events may go."""
    return WebhookRules(secrets_of=peppers.webhook_secrets, allow_private=settings.webhooks.allow_private_hosts)


def _books(settings: Settings, peppers: Peppers, observer: MetricsAndLog) -> Books:
    return Books(
        observer=observer,
        answer_of=answer_of,
        hash_prompt=peppers.hash_prompt,
        with_prompts=settings.ledger.prompts,
    )


def _mapping_rules(settings: Settings, peppers: Peppers) -> MappingRules:
    return MappingRules(
        hash_user=peppers.hash_user,
        strict=settings.server.strict,
        allow_unwatermarked=settings.images.allow_unwatermarked,
        upstream_urls=settings.store.urls == "upstream",
    )


def _listening(
    redis: RedisClient, authenticate: Authenticate, quotas: Quotas, flow: Flow, upstreams: Upstreams, more: Heard
) -> AbstractAsyncContextManager[None]:
    """Hear what others announce: changes of keys, ends of jobs, cancellations, free slots and parks; and `more`."""
    heard = {CHANGES: authenticate.forget, JOBS: quotas.end_heard, CANCELS: flow.generate.cancel}
    heard |= {**upstreams.heard(quotas), **more}
    return _working(listen(redis, heard, authenticate.forget_all))


@asynccontextmanager
async def _authenticating(
    engine: AsyncEngine, peppers: Peppers, clock: SystemClock
) -> AsyncGenerator[tuple[Authenticate, Authenticated]]:
    """Give the use case, and the same with a note of when keys are used."""
    uses = LastUses(SqlKeys(engine), clock)
    authenticate = Authenticate(SqlKeys(engine), peppers.keys, clock, uses.renew)

    async def authenticated(secret: str | None, address: Address | None) -> Caller:
        caller = await authenticate(secret, address)
        uses.note(caller.key_id)
        return caller

    async with _working(uses.run()):
        yield authenticate, authenticated
    await uses.write()


@asynccontextmanager
async def _working(work: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Let endless work go on beside the block."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await end(task)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[AsyncEngine]:
    """Open the database with its schema up to date."""
    engine = sql.open_engine(settings.database.url.reveal() or f"sqlite:///{settings.data_dir / 'gateway.db'}")
    try:
        await sql.migrate(engine)
        yield engine
    finally:
        await sql.close(engine)


def prepare_data_dir(data_dir: Path) -> None:
    """Make the data directory, readable by its owner alone."""
    os.umask(0o077)  # whatever is made there from now on is its owner's alone
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as failure:
        raise Misconfigured(f"The data directory {data_dir} cannot be made: {failure.strerror}.") from failure


@asynccontextmanager
async def _open_redis(settings: Settings, observer: MetricsAndLog) -> AsyncGenerator[RedisClient]:
    client = RedisClient(settings.redis.url.reveal())
    try:
        await _greet(client)
        observer.redis_concerns(await concerns(client))
        yield client
    finally:
        await client.aclose()


async def _greet(client: RedisClient) -> None:
    try:
        await client.ping()
    except (RedisError, OSError) as failure:
        raise Misconfigured(f"Redis cannot be used at {client.where}: {failure}.") from failure
