"""What a request becomes for this caller, and what its pictures are charged."""

from datetime import datetime

from gateway.domain.asked import Asked
from gateway.domain.billing import Tariff
from gateway.domain.catalog import Catalog
from gateway.domain.image import ImageOrder, ImageRequest
from gateway.domain.job import CacheRules, Job, sought_by
from gateway.domain.keys import Caller
from gateway.domain.mapping import MappingRules, order_from
from gateway.service.books import Books
from gateway.service.offers import Offers


class Planner:
    """What is on offer with its currency, the operator's rules of mapping and caching, and the books."""

    def __init__(
        self,
        offers: Offers,
        currency: str,
        rules: MappingRules,
        caching: CacheRules,
        books: Books,
    ) -> None:
        self._offers = offers
        self._rules = rules
        self._currency = currency
        self._caching = caching
        self._books = books

    def plan(self, caller: Caller, request: ImageRequest, asked: Asked, now: datetime) -> Job:
        """Map a request by the installation's rules and the key's.

        Raises:
            InvalidRequest: the request has to change.
            ModelNotAllowed: key or project may not use the model.
        """
        offer = self._offers.now
        model = offer.catalog.find(request.model)
        caller.require(model.name, request.model or model.name)
        order = self._order(caller, request, offer.catalog, strict=asked.strict)
        tariff = offer.costed(Tariff.of(model.price, self._currency, caller.markup), model.name)
        return Job(
            caller=caller,
            order=order,
            tariff=tariff,
            sought=sought_by(caller, order, asked, self._caching),
            line=self._books.open(caller, order, tariff, request_id=asked.request_id, now=now),
            came=now,
        )

    def _order(self, caller: Caller, request: ImageRequest, catalog: Catalog, *, strict: bool) -> ImageOrder:
        rules = self._rules.of(strict=strict, unwatermarked=caller.unwatermarked_allowed)
        return order_from(request, catalog, rules)
