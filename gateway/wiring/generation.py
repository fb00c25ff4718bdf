"""Builds the flow of a generation on what is open: planning, making, leaving, and the rescue of others' jobs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway.adapters.observer import MetricsAndLog
from gateway.domain.job import CacheRules
from gateway.domain.mapping import MappingRules
from gateway.service.books import Books
from gateway.service.generate import GenerateImages
from gateway.service.jobs import Jobs
from gateway.service.leaving import Leaving
from gateway.service.making import Making
from gateway.service.offers import Offers
from gateway.service.plan import Planner
from gateway.service.rescue import Rescue
from gateway.service.turns import Bounds, Turns
from gateway.settings import Settings
from gateway.wiring.quotas import Quotas
from gateway.wiring.upstreams import Upstreams

ERRAND_SECONDS = 2.0  # for what other replicas are to be told when the process ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The use case, the jobs that it runs, their turns, and what takes over the jobs of dead replicas."""

    generate: GenerateImages
    jobs: Jobs
    turns: Turns
    rescue: Rescue


@asynccontextmanager
async def open_flow(
    settings: Settings, planner: Planner, books: Books, quotas: Quotas, upstreams: Upstreams, observer: MetricsAndLog
) -> AsyncGenerator[Flow]:
    """Build the flow; when the block has ended, no job of this process runs any more."""
    clock, flights = quotas.clock, quotas.flights
    jobs, errands = Jobs(observer.crashed), Jobs(observer.crashed)
    leaving = Leaving(flights, errands, clock, abandon_after=settings.queue.abandon_after)
    bounds = Bounds(jobs=settings.queue.max_jobs, patience=settings.queue.max_wait)
    turns = Turns(flights, clock, observer, bounds)
    making = Making(upstreams.maker, upstreams.keeping, flights, errands, leaving, turns)
    told = (flights, quotas.reservations, books, errands)
    generate = GenerateImages(planner, quotas.reservations, making, books, jobs, clock)
    observer.show_jobs(lambda: generate.running)
    try:
        yield Flow(
            generate=generate,
            jobs=jobs,
            turns=turns,
            rescue=Rescue(upstreams.keeping, *told, clock, resuming=upstreams.resuming, offers=upstreams.offers),
        )
    finally:
        await jobs.drain(0)
        await errands.drain(ERRAND_SECONDS)


def planner_of(settings: Settings, offers: Offers, rules: MappingRules, books: Books) -> Planner:
    """Build the planner of an installation."""
    caching = CacheRules(
        scope=settings.cache.scope,
        lifetime=settings.cache.lifetime,
        max_entries=settings.cache.max_entries,
        distinct_user_agents=settings.cache.distinct_user_agents,
    )
    return Planner(offers, settings.billing.currency, rules, caching, books)
