"""Opens the way to the upstream: accounts, their slots, the calls and the downloads."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.adapters.glm.client import Endpoint, GlmImage
from gateway.adapters.glm.drafts import open_drafts
from gateway.adapters.glm.fetch import FetchRules, PictureDownloads
from gateway.adapters.glm.proxies import Proxies
from gateway.adapters.glm.transport import HttpTransport, PublicResolver
from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.changes import Heard
from gateway.adapters.redis.names import PARKS
from gateway.adapters.redis.slots import heard_grants
from gateway.adapters.tracing.off import Untraced
from gateway.domain.addresses import is_loopback
from gateway.service.dispatch import Dispatch, PictureMaker
from gateway.service.jobs import Jobs
from gateway.service.keeping import Keeping
from gateway.service.model_queue import Desk
from gateway.service.picture_ports import PictureStore
from gateway.service.resuming import Resuming
from gateway.service.slots import Slots
from gateway.settings import Settings, environment
from gateway.wiring.background import every
from gateway.wiring.offers import Offer
from gateway.wiring.quotas import Quotas
from gateway.wiring.store import open_store

TEND_SECONDS = 1.0
GIVE_BACK_SECONDS = 2.0  # for slots that are on their way back when the process ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstreams:
    """The way to pictures: made, and kept."""

    slots: Slots
    store: PictureStore
    maker: PictureMaker
    keeping: Keeping
    resuming: Resuming
    errands: Jobs

    def heard(self, quotas: Quotas) -> Heard:
        """Say what is to be heard of slots, and by whom."""

        def parked(model: str) -> None:
            _ = self.errands.start(self.slots.tend_one(model))

        return {quotas.slots.channel: lambda message: self.slots.granted(heard_grants(message)), PARKS: parked}


@asynccontextmanager
async def open_upstreams(
    settings: Settings, offer: Offer, quotas: Quotas, observer: MetricsAndLog, tracing: Untraced
) -> AsyncGenerator[Upstreams]:
    """Open the transports, one for paid calls and one for downloads, and dispatch pictures over them into the store."""
    clock, errands = quotas.clock, Jobs(observer.crashed)
    desk = Desk(store=quotas.slots, clock=clock, errands=errands, without=settings.quota.on_outage == "allow")
    accounts = offer.accounts
    observer.show_upstreams(accounts, offer.catalog.models)
    slots = Slots(accounts, tuple(offer.catalog.models), desk, observer)
    rules = fetch_rules(settings)
    loopback = {urlsplit(f"//{host}").hostname for host in rules.loopback_hosts}
    proxies = Proxies(environment())
    calls = HttpTransport(proxies=proxies)
    resolver = PublicResolver(except_hosts=frozenset(filter(None, loopback)))
    downloads = HttpTransport(resolver=resolver, proxies=proxies)
    try:
        async with open_store(settings, clock, observer) as opened:
            with open_drafts(settings.data_dir / "downloads") as drafts:
                store = tracing.store(opened)
                source = tracing.source(PictureDownloads(downloads, rules, drafts))
                keeping = Keeping(source, store, clock, observer)
                upstream = tracing.upstream(GlmImage(tracing.transport(calls), endpoints_of(settings)))
                dispatch = Dispatch(upstream, keeping, slots, clock, observer, longest_call=settings.longest_call)
                resuming = Resuming(upstream, {account.name: account for account in accounts})
                async with every(TEND_SECONDS, slots.tend, observer):
                    yield Upstreams(
                        slots=slots,
                        store=store,
                        maker=tracing.maker(dispatch),
                        keeping=keeping,
                        resuming=resuming,
                        errands=errands,
                    )
    finally:
        await errands.drain(GIVE_BACK_SECONDS)
        await calls.aclose()
        await downloads.aclose()


def endpoints_of(settings: Settings) -> dict[str, Endpoint]:
    """Say where each account is called, by its name."""
    return {
        upstream.name: Endpoint(
            base_url=upstream.base_url,
            api_key=upstream.api_key.reveal(),
            timeout=settings.timeout_of(upstream),
            mode=upstream.mode,
        )
        for upstream in settings.upstreams
    }


PORTS = {"http": 80, "https": 443}


def fetch_rules(settings: Settings) -> FetchRules:
    """Say which hosts pictures may come from: the configured ones, and those of the accounts themselves."""
    bases = [urlsplit(upstream.base_url) for upstream in settings.upstreams]
    here = [base for base in bases if is_loopback(base.geturl())]
    hosts = [base.hostname for base in bases if base.hostname and base not in here]
    added = [host for upstream in settings.upstreams for host in upstream.image_hosts]
    return FetchRules(
        host_suffixes=(*settings.upstream.image_hosts, *added, *hosts),
        loopback_hosts=tuple(base.netloc if base.port else f"{base.netloc}:{PORTS[base.scheme]}" for base in here),
        max_bytes=settings.upstream.image_max_bytes,
        timeout=settings.upstream.image_timeout,
    )
