"""Reads the settings anew while the gateway runs, and puts in place what may change."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from gateway.adapters.observer import MetricsAndLog
from gateway.adapters.redis.reloads import RedisReloads
from gateway.domain.errors import GatewayError, Misconfigured
from gateway.service.errands import quietly
from gateway.service.jobs import Jobs
from gateway.service.offers import Offer
from gateway.service.ports_reloads import Reloaded
from gateway.settings import Settings
from gateway.settings.changing import changed, fixed
from gateway.wiring.checking import check
from gateway.wiring.offers import offer_of
from gateway.wiring.quotas import Quotas
from gateway.wiring.upstreams import Upstreams


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Settings as they were read, and how they are read anew."""

    settings: Settings
    read: Callable[[], Settings]


class Reload:
    """Lets a gateway that runs with settings follow their source: all of what may change, or nothing."""

    def __init__(
        self,
        source: Source,
        running: Settings,
        quotas: Quotas,
        upstreams: Upstreams,
        observer: MetricsAndLog,
    ) -> None:
        self._source = source
        self._running = running
        self._observer = observer
        self._upstreams = upstreams
        self._quotas = quotas
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self) -> Reloaded:
        """Read, check and put in place; the settings that hold stay when something is wrong."""
        async with self._one_at_a_time:
            try:
                settings, offer, left = await asyncio.to_thread(self._read)
            except Exception as failure:  # noqa: BLE001 - a defect must not end the gateway, nor keep it from the next reload
                return self._refused(failure)
            self._put(settings, offer)
            self._observer.settings_loaded(left)
            return Reloaded(replica=self._quotas.owner, fixed=left)

    def _refused(self, failure: Exception) -> Reloaded:
        if isinstance(failure, GatewayError):
            reason = failure.message
        else:
            reason = f"A defect kept the settings from being read ({type(failure).__name__}); the log says where."
            self._observer.crashed(failure)
        self._observer.settings_refused(reason)
        return Reloaded(replica=self._quotas.owner, refused=reason)

    def _put(self, settings: Settings, offer: Offer) -> None:
        """Put in place how the accounts are reached, then who is sent to them; without a wait, so nobody meets half."""
        self._upstreams.ways.lead(settings)
        self._quotas.slots.lengthen_calls(offer.longest_call)
        self._upstreams.offers.now = offer
        self._observer.show_upstreams(offer.accounts, offer.catalog.models)
        self._upstreams.slots.offered_anew()

    def _read(self) -> tuple[Settings, Offer, tuple[str, ...]]:
        """Check what is given as at a start, and then what comes of it here."""
        given = self._source.read()
        _ = check(given)
        left = fixed(self._source.settings, given)
        try:
            settings = changed(self._running, given)
            return settings, offer_of(settings), left
        except Misconfigured as failure:
            raise Misconfigured(f"{failure.message} (What takes a restart has changed: {', '.join(left)}.)") from None


def on_call(reload: Reload, reloads: RedisReloads, errands: Jobs) -> Callable[[str], None]:
    """Give what is done when the operator calls on all replicas: reload, and say what came of it."""

    async def answer(call: str) -> None:
        await quietly(reloads.answer(call, await reload()))

    def called(call: str) -> None:
        _ = errands.start(answer(call))

    return called
