"""Use cases on fakes of everything that they need."""

from datetime import UTC

from gateway.api.errors import answer_of
from gateway.domain.asked import Asked
from gateway.domain.errors import InvalidKey
from gateway.domain.job import CacheRules
from gateway.domain.quota import calendar_of
from gateway.service.authenticate import Authenticate
from gateway.service.backlog import Backlog
from gateway.service.books import Books
from gateway.service.generate import GenerateImages
from gateway.service.jobs import Jobs
from gateway.service.leaving import Leaving
from gateway.service.making import Making
from gateway.service.plan import Planner
from gateway.service.reserve import Reservations
from gateway.service.turns import Bounds, Turns
from tests.builders import PEPPER, a_caller, a_request, a_secret, a_stored_key, an_account, mapping_rules
from tests.fakes import FakeClock, FakeKeys, FakeObserver, Workshop
from tests.fakes_flights import FakeFlights
from tests.fakes_quota import FakeQuotas, FakeSpool, settlements_on
from tests.quota_memory import Memory

BOOKS = Books(observer=FakeObserver(), answer_of=answer_of, hash_prompt=lambda prompt: f"hash of {len(prompt)}")
ROOMY = Bounds(jobs=100, patience=180.0)


class Studio:
    """The flow of a request; `concurrency` calls may be in flight, and prices are the catalog's."""

    def __init__(
        self,
        *ends,
        concurrency=10,
        on_outage="refuse",
        max_backlog=100,
        scope="off",
        bounds=ROOMY,
        abandon_after=30.0,
        **rules,
    ):
        self.shop = Workshop(*ends, accounts=[an_account(concurrency=concurrency)])
        self.crashes = []
        self.jobs = Jobs(self.crashes.append)
        self.quotas = FakeQuotas(Memory(self.shop.clock))
        self.spool = FakeSpool()
        self.refilled = []
        self.settlements = settlements_on(
            self.quotas, self.spool, Backlog(max_backlog, self.shop.observer), self.shop.observer
        )
        self.reservations = Reservations(
            self.quotas, self.settlements, self._refill, self.jobs, self.shop.clock, on_outage=on_outage
        )
        planner = Planner(self.shop.offers, "CNY", mapping_rules(**rules), CacheRules(scope=scope), BOOKS)
        self.flights, self.errands = FakeFlights(), Jobs(self.crashes.append)
        leaving = Leaving(self.flights, self.errands, self.shop.clock, abandon_after=abandon_after)
        self.turns = Turns(self.flights, self.shop.clock, self.shop.observer, bounds)
        making = Making(self.shop.dispatch, self.shop.keeping, self.flights, self.errands, leaving, self.turns)
        self.generate = GenerateImages(planner, self.reservations, making, BOOKS, self.jobs, self.shop.clock)
        self.requests = 0

    async def start(self, *, strict=False, caller=None, **parameters):
        """Ask as a client does; the requests are request-1, request-2 ..."""
        self.requests += 1
        asked = Asked(request_id=f"request-{self.requests}", strict=strict)
        return await self.generate(caller or a_caller(), a_request(**parameters), asked)

    async def line(self):
        """Wait for the end of everything, and give the only line that was settled."""
        assert await self.jobs.drain(5) == await self.errands.drain(5) == 0
        [line] = self.quotas.events
        return line

    async def _refill(self, shard):
        self.refilled.append(shard)
        await self.quotas.refill(shard, calendar_of(0, UTC), {}, fresh=True)


SECRET = a_secret()


class Door:
    """Authentication, knowing one key or those that are given."""

    def __init__(self, *keys, peppers=(PEPPER,), step=0.0):
        self.keys = FakeKeys(*(keys or [a_stored_key(SECRET)]))
        self.clock = FakeClock(step)
        self.renewed = []
        self.authenticate = Authenticate(self.keys, peppers, self.clock, self.renewed.append)

    async def lets_in(self, secret=SECRET, address=None):
        try:
            await self.authenticate(secret, address)
        except InvalidKey:
            return False
        return True
