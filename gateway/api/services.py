"""What the routes need; wiring builds it, and tests may build another."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.addresses import Address, Networks
from gateway.domain.asked import Asked
from gateway.domain.catalog import Catalog
from gateway.domain.image import ImageRequest
from gateway.domain.keys import Caller
from gateway.domain.slots import Park
from gateway.service.administration import Administration
from gateway.service.deliver import Deliver
from gateway.service.generation import Generation
from gateway.service.offers import Offers
from gateway.service.ports_reloads import Reloaded
from gateway.service.ports_requests import RequestObserver, RequestTraces
from gateway.service.tasks import Task


class Authenticated(Protocol):
    """The use case that finds the key of a secret."""

    async def __call__(self, secret: str | None, address: Address | None) -> Caller:
        """Give the caller, or raise MissingKey, InvalidKey, AddressNotAllowed."""
        ...


class Generate(Protocol):
    """The use case behind POST /v1/images/generations."""

    async def __call__(self, caller: Caller, request: ImageRequest, asked: Asked) -> Generation:
        """Start a generation."""
        ...


class FindTask(Protocol):
    """The use case that looks for a job by its id."""

    async def __call__(self, caller: Caller, task_id: str) -> Task:
        """Say how far it is, or raise TaskNotFound, QuotaStoreDown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Which parts are well. `limits_off`: the quota store is away, and requests are served without limits.

    `parked` are the upstreams that are left alone, each with a model that it would serve.
    """

    parts: dict[str, bool]
    limits_off: bool
    parked: tuple[tuple[str, Park], ...] = ()

    @property
    def ready(self) -> bool:
        """Tell whether requests are served."""
        return all(well or (name == "redis" and self.limits_off) for name, well in self.parts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The use cases, and what the operator's routes show.

    `shut_down` takes nothing new and waits for what runs; `reload` reads the settings anew.

    `currency` is that of prices and spend limits, in three capital letters.

    X-Forwarded-For is believed when one of `trusted_proxies` wrote it.
    """

    authenticate: Authenticated
    generate: Generate
    tasks: FindTask
    deliver: Deliver
    administration: Administration
    offers: Offers
    currency: str
    readiness: Callable[[], Awaitable[Readiness]]
    render_metrics: Callable[[], bytes]
    requests: RequestObserver
    reload: Callable[[], Awaitable[Reloaded]]
    shut_down: Callable[[], Awaitable[None]]
    traces: RequestTraces | None = None
    trusted_proxies: Networks = ()

    @property
    def catalog(self) -> Catalog:
        """The models that are on offer now."""
        return self.offers.now.catalog
