"""Opens what the operator's commands need."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from gateway.adapters.glm.client import GlmImage
from gateway.adapters.glm.proxies import Proxies
from gateway.adapters.glm.transport import HttpTransport
from gateway.adapters.redis.board import RedisJobBoard
from gateway.adapters.redis.changes import RedisAnnouncer
from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.embedded import EmbeddedServer
from gateway.adapters.redis.scripts import Scripts
from gateway.adapters.redis.slots import RedisSlots
from gateway.adapters.sql.installation import agree_on_secret
from gateway.adapters.system import operator
from gateway.domain.audit import Actor
from gateway.domain.errors import Misconfigured
from gateway.service.administer_jobs import AdministerJobs
from gateway.service.administer_upstreams import AdministerUpstreams
from gateway.service.administration import Administration
from gateway.service.audit import Audit
from gateway.service.ports import QuotaUnavailable
from gateway.service.ports_keys import Announcer
from gateway.service.ports_slots import SlotsUnavailable
from gateway.settings import Settings, environment
from gateway.settings.models import load_catalog
from gateway.wiring import open_database, prepare_data_dir, read_peppers, webhook_rules
from gateway.wiring.accounts import accounts_of
from gateway.wiring.administering import administration_on
from gateway.wiring.upstreams import endpoints_of

DEADLINE = 5.0  # seconds that a command waits for Redis


@asynccontextmanager
async def open_administration(settings: Settings, warn: Callable[[str], None]) -> AsyncGenerator[Administration]:
    """Open what the operator's commands need: the database, and the way to running gateways if there are any.

    `warn` is told when a change is stored and gateways could not be told of it.
    """
    prepare_data_dir(settings.data_dir)
    peppers = read_peppers(settings)
    async with open_database(settings) as engine, _open_announcer(settings, warn) as announcer:
        await agree_on_secret(engine, peppers.checks)
        yield administration_on(engine, announcer, peppers.keys, webhook_rules(settings, peppers), commanding())


def commanding() -> Actor:
    """Say who gives a command: the user of the operating system."""
    user = operator()
    return Actor(kind="cli", id=f"cli:{user}", name=user)


class NobodyListens:
    """The announcer of an installation whose embedded server does not run, and so no gateway."""

    async def announce(self, subject_id: str) -> None:
        """Say nothing."""


@asynccontextmanager
async def _open_announcer(settings: Settings, warn: Callable[[str], None]) -> AsyncGenerator[Announcer]:
    url = settings.redis.url.reveal() or EmbeddedServer(settings.data_dir).running_url()
    if not url:
        yield NobodyListens()
        return
    async with aclosing(RedisClient(url)) as redis:
        yield RedisAnnouncer(redis, warn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What runs and what is remembered, and the upstream's accounts."""

    jobs: AdministerJobs
    upstreams: AdministerUpstreams


@asynccontextmanager
async def open_operation(settings: Settings) -> AsyncGenerator[Operation]:
    """Open the view of jobs and remembered pictures; `settings` are prepared, so that there is a Redis.

    Raises:
        Misconfigured: Redis does not answer.
    """
    redis = RedisClient(settings.redis.url.reveal())
    async with open_administration(settings, lambda _: None) as administration, aclosing(redis):
        scripts = Scripts(redis)
        try:
            async with _open_upstreams(settings, scripts, administration.audit) as upstreams:
                jobs = AdministerJobs(RedisJobBoard(scripts), administration.projects, administration.audit)
                yield Operation(jobs=jobs, upstreams=upstreams)
        except (QuotaUnavailable, SlotsUnavailable) as failure:
            raise Misconfigured(f"Redis at {redis.where} does not answer: {failure}.") from failure


@asynccontextmanager
async def _open_upstreams(settings: Settings, scripts: Scripts, audit: Audit) -> AsyncGenerator[AdministerUpstreams]:
    catalog = load_catalog(settings.models.file)
    store = RedisSlots(scripts, "operator", lease=0, longest=0, longest_call=0, deadline=DEADLINE)
    async with aclosing(HttpTransport(proxies=Proxies(environment()))) as transport:
        upstream = GlmImage(transport, endpoints_of(settings))
        yield AdministerUpstreams(accounts_of(settings, catalog), catalog.models, store, upstream, audit)
