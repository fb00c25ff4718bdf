"""The ONE place that opens Redis, SQL and HTTP, and builds the use cases on them."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from redis.exceptions import RedisError
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters import logs
from gateway.adapters.glm.client import Endpoint, GlmImage
from gateway.adapters.glm.fetch import FetchRules, PictureDownloads
from gateway.adapters.glm.transport import AiohttpTransport, PublicResolver
from gateway.adapters.metrics import Metrics
from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.embedded import EmbeddedServer
from gateway.adapters.sql import engine as sql
from gateway.adapters.sql.keys import SqlKeys
from gateway.api.services import Services
from gateway.domain.errors import Misconfigured
from gateway.domain.keys import ALPHABET, derive
from gateway.domain.mapping import MappingRules
from gateway.domain.upstream import Account
from gateway.service.administer import Administer
from gateway.service.authenticate import Authenticate
from gateway.service.dispatch import Dispatch, Slots
from gateway.service.generate import GenerateImages
from gateway.service.jobs import Jobs
from gateway.settings import Settings, is_loopback
from gateway.settings.models import load_catalog


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Give the present moment in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Give seconds that never run back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Peppers:
    """What is derived from the installation's secrets, the newest first: one use, one label."""

    masters: tuple[bytes, ...]

    @property
    def keys(self) -> tuple[bytes, ...]:
        """For the digests of keys."""
        return tuple(derive(master, "key-digest") for master in self.masters)

    def hash_user(self, user: str) -> str:
        """Give 32 hex digits that stand for an end user upstream."""
        return derive(self.masters[0], "end-user\0" + user).hex()[:32]


@contextmanager
def prepared(settings: Settings) -> Generator[Settings]:
    """Do before the loop starts what may block: logging, the data directory, the embedded Redis server.

    Raises:
        Misconfigured: in one sentence, what the operator has to change.
    """
    logs.configure(settings.log.level, settings.log.format)
    prepare_data_dir(settings.data_dir)
    if settings.redis.url:
        yield settings
        return
    with EmbeddedServer(settings.data_dir).in_use() as url:
        yield settings.with_redis(url)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncGenerator[Services]:
    """Open everything, give the use cases, close everything in reverse order.

    Raises:
        Misconfigured: a part cannot be reached or used.
    """
    if not settings.upstreams:
        raise Misconfigured(
            "No upstream key is set: give ZHIPUAI_API_KEY=<id>.<secret> (or ZAI_API_KEY), or try 'glm-gateway demo'.",
        )
    catalog, peppers, clock, metrics = load_catalog(), read_peppers(settings), SystemClock(), Metrics()
    observer = MetricsAndLog(metrics, logs.logger())
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(open_database(settings))
        redis = await stack.enter_async_context(_open_redis(settings))
        slots = _slots(settings)
        dispatch = await stack.enter_async_context(_open_dispatch(settings, slots, clock, observer))
        jobs = Jobs(observer.crashed)
        stack.push_async_callback(jobs.drain, 0)
        rules = MappingRules(
            hash_user=peppers.hash_user,
            strict=settings.server.strict,
            allow_unwatermarked=settings.images.allow_unwatermarked,
        )

        async def readiness() -> dict[str, bool]:
            parts = {"redis": await redis.answers(), "sql": await sql.answers(engine)}
            return {**parts, "accepting": not jobs.closing}

        async def shut_down() -> None:
            jobs.closing = True
            slots.close()
            await jobs.drain(settings.server.drain_seconds)

        yield Services(
            authenticate=Authenticate(SqlKeys(engine), peppers.keys, clock),
            generate=GenerateImages(catalog, rules, dispatch, jobs, clock),
            catalog=catalog,
            readiness=readiness,
            render_metrics=metrics.render,
            request_finished=observer.request_finished,
            shut_down=shut_down,
        )


@asynccontextmanager
async def open_administration(settings: Settings) -> AsyncGenerator[Administer]:
    """Open what the operator's commands need: the database alone."""
    prepare_data_dir(settings.data_dir)
    peppers = read_peppers(settings)
    async with open_database(settings) as engine:
        yield Administer(SqlKeys(engine), peppers.keys[0], SystemClock(), random_text)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncGenerator[AsyncEngine]:
    """Open the database with its schema up to date."""
    engine = sql.open_engine(settings.database.url.reveal() or f"sqlite:///{settings.data_dir / 'gateway.db'}")
    try:
        await sql.migrate(engine)
        yield engine
    finally:
        await engine.dispose()


def prepare_data_dir(data_dir: Path) -> None:
    """Make the data directory, readable by its owner alone."""
    os.umask(0o077)  # whatever is made there from now on is its owner's alone
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as failure:
        raise Misconfigured(f"The data directory {data_dir} cannot be made: {failure.strerror}.") from failure


def read_peppers(settings: Settings) -> Peppers:
    """Read the installation's secrets, a comma list; without one, the data directory's own is used and made once."""
    given = settings.secret_key.reveal()
    if not given:
        url = settings.database.url.reveal()
        if url and not url.startswith("sqlite"):
            raise Misconfigured(
                "GLM_GATEWAY_SECRET_KEY is required with this DATABASE_URL: every replica needs the same one. "
                "Make one with 'openssl rand -hex 32'.",
            )
        given = _own_secret(settings.data_dir / "secret.key")
    masters = tuple(part.strip().encode() for part in given.split(",") if part.strip())
    if not masters:
        raise Misconfigured(
            "The secret key is empty: set GLM_GATEWAY_SECRET_KEY, or restore secret.key in the data directory.",
        )
    return Peppers(masters)


def random_text(length: int) -> str:
    """Draw characters of the key alphabet that nobody can guess."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _own_secret(path: Path) -> str:
    """Read the secret, or make it: linked into place whole, so that two processes that start together agree."""
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    try:
        return path.read_text("ascii")
    except UnicodeDecodeError as failure:
        raise Misconfigured(f"{path} is damaged: restore it from a backup, or no key opens any more.") from failure


@asynccontextmanager
async def _open_redis(settings: Settings) -> AsyncGenerator[RedisClient]:
    client = RedisClient(settings.redis.url.reveal())
    try:
        await _greet(client)
        yield client
    finally:
        await client.aclose()


async def _greet(client: RedisClient) -> None:
    try:
        await client.ping()
    except (RedisError, OSError) as failure:
        raise Misconfigured(f"Redis cannot be used at {client.where}: {failure}.") from failure


def _slots(settings: Settings) -> Slots:
    accounts = [Account(name=upstream.name, concurrency=upstream.concurrency) for upstream in settings.upstreams]
    return Slots(accounts, max_wait=settings.queue.max_wait, max_length=settings.queue.max_length)


@asynccontextmanager
async def _open_dispatch(
    settings: Settings, slots: Slots, clock: SystemClock, observer: MetricsAndLog
) -> AsyncGenerator[Dispatch]:
    endpoints = {
        upstream.name: Endpoint(base_url=upstream.base_url, api_key=upstream.api_key.reveal())
        for upstream in settings.upstreams
    }
    rules = fetch_rules(settings)
    loopback = {urlsplit(f"//{host}").hostname for host in rules.loopback_hosts}
    calls = AiohttpTransport()
    downloads = AiohttpTransport(resolver=PublicResolver(except_hosts=frozenset(filter(None, loopback))))
    try:
        yield Dispatch(
            GlmImage(calls, endpoints, settings.upstream.timeout),
            PictureDownloads(downloads, rules),
            slots,
            clock,
            observer,
        )
    finally:
        await calls.aclose()
        await downloads.aclose()


PORTS = {"http": 80, "https": 443}


def fetch_rules(settings: Settings) -> FetchRules:
    """Say which hosts pictures may come from: the configured ones, and those of the accounts themselves."""
    bases = [urlsplit(upstream.base_url) for upstream in settings.upstreams]
    here = [base for base in bases if is_loopback(base.geturl())]
    hosts = [base.hostname for base in bases if base.hostname and base not in here]
    return FetchRules(
        host_suffixes=(*settings.upstream.image_hosts, *hosts),
        loopback_hosts=tuple(base.netloc if base.port else f"{base.netloc}:{PORTS[base.scheme]}" for base in here),
        max_bytes=settings.upstream.image_max_bytes,
        timeout=settings.upstream.image_timeout,
    )
