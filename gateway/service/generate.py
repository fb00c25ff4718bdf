"""THE FLOW of one request: plan -> make -> answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from gateway.domain.catalog import Catalog
from gateway.domain.errors import GatewayError
from gateway.domain.image import ImageOrder, ImageRequest, Picture
from gateway.domain.keys import Caller
from gateway.domain.mapping import MappingRules, order_from
from gateway.service.dispatch import Dispatch
from gateway.service.jobs import Jobs
from gateway.service.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A generation under way: one task per picture. They run to their end, whoever waits."""

    order: ImageOrder
    caller: Caller
    created: int
    tasks: tuple[asyncio.Task[Picture], ...]

    async def all(self) -> list[Picture]:
        """Wait for every picture and give those that came, in order; the first failure when none did."""
        ends = await asyncio.gather(*map(asyncio.shield, self.tasks), return_exceptions=True)
        pictures = [end for end in ends if isinstance(end, Picture)]
        if not pictures:
            raise _first_failure(ends)
        return pictures

    async def each(self) -> AsyncIterator[Picture]:
        """Give each picture as soon as it is there; raise the first failure at the end when none came."""
        failures: list[BaseException] = []
        for next_end in asyncio.as_completed(self.tasks):
            try:
                yield await next_end
            except GatewayError as failure:
                failures.append(failure)
        if len(failures) == len(self.tasks):
            raise _first_failure(failures)


class GenerateImages:
    """POST /v1/images/generations as a use case."""

    def __init__(
        self,
        catalog: Catalog,
        rules: MappingRules,
        dispatch: Dispatch,
        jobs: Jobs,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._rules = rules
        self._dispatch = dispatch
        self._jobs = jobs
        self._clock = clock

    def __call__(self, caller: Caller, request: ImageRequest, *, strict: bool = False) -> Generation:
        """Plan the request and start its pictures.

        Raises:
            InvalidRequest: nothing was started and nothing is charged.
            ModelNotAllowed: as above.
        """
        model = self._catalog.find(request.model)
        caller.require(model.name, request.model or model.name)
        rules = replace(
            self._rules,
            strict=self._rules.strict or strict,
            allow_unwatermarked=self._rules.allow_unwatermarked or caller.unwatermarked_allowed,
        )
        order = order_from(request, self._catalog, rules)
        return Generation(
            order=order,
            caller=caller,
            created=int(self._clock.now().timestamp()),
            tasks=tuple(self._jobs.start(self._dispatch.make(order.plan)) for _ in range(order.n)),
        )


def _first_failure(ends: Sequence[object]) -> BaseException:
    return next(end for end in ends if isinstance(end, BaseException))
