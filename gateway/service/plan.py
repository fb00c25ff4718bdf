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


class Planner:
    """The catalog with its currency, the operator's rules of mapping and caching, and the books."""

    def __init__(
        self,
        catalog: Catalog,
        currency: str,
        rules: MappingRules,
        caching: CacheRules,
        books: Books,
    ) -> None:
        self._catalog = catalog
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
        model = self._catalog.find(request.model)
        caller.require(model.name, request.model or model.name)
        order = self._order(caller, request, strict=asked.strict)
        tariff = Tariff.of(model.price, self._currency, caller.markup)
        return Job(
            caller=caller,
            order=order,
            tariff=tariff,
            sought=sought_by(caller, order, asked, self._caching),
            line=self._books.open(caller, order, tariff, request_id=asked.request_id, now=now),
            came=now,
        )

    def _order(self, caller: Caller, request: ImageRequest, *, strict: bool) -> ImageOrder:
        rules = self._rules.of(strict=strict, unwatermarked=caller.unwatermarked_allowed)
        return order_from(request, self._catalog, rules)
