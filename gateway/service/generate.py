"""THE FLOW of one request: plan -> make -> answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from gateway.domain.catalog import Catalog
from gateway.domain.errors import GatewayError, ImageDownloadFailed, OutcomeUnknown
from gateway.domain.image import ImageOrder, ImageRequest, Picture
from gateway.domain.keys import Caller
from gateway.domain.mapping import MappingRules, order_from
from gateway.service.dispatch import Dispatch, shutting_down
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
        """Wait for every picture and give those that came, in order; the worst failure when none did."""
        ends = await asyncio.gather(*map(asyncio.shield, self.tasks), return_exceptions=True)
        pictures = [end for end in ends if isinstance(end, Picture)]
        if not pictures:
            raise _worst(ends)
        return pictures

    async def each(self) -> AsyncIterator[Picture]:
        """Give each picture as soon as it is there; raise the worst failure at the end when none came."""
        failures: list[BaseException] = []
        pending = set(self.tasks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=self.tasks.index):
                failure = asyncio.CancelledError() if task.cancelled() else task.exception()
                if failure is None:
                    yield task.result()
                else:
                    failures.append(failure)
        if len(failures) == len(self.tasks):
            raise _worst(failures)

    def failures(self) -> list[GatewayError]:
        """Give what became of the pictures that did not come, as far as it is known."""
        ends = (task.exception() for task in self.tasks if task.done() and not task.cancelled())
        return [end for end in ends if isinstance(end, GatewayError)]


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
            InvalidRequest, ShuttingDown: nothing was started and nothing is charged.
        """
        if self._jobs.closing:
            raise shutting_down()
        rules = replace(self._rules, strict=self._rules.strict or strict)
        order = order_from(request, self._catalog, rules)
        return Generation(
            order=order,
            caller=caller,
            created=int(self._clock.now().timestamp()),
            tasks=tuple(self._jobs.start(self._dispatch.make(order.plan)) for _ in range(order.n)),
        )


def _worst(ends: Sequence[object]) -> BaseException:
    """Give the failure that the client must not overlook: what may have been paid comes before what was not."""
    failures = [end for end in ends if isinstance(end, BaseException)]
    cut = [end for end in failures if isinstance(end, asyncio.CancelledError)]
    if cut:
        return OutcomeUnknown(
            "The gateway was stopped before the picture was there, so it may have been made. "
            "Send the request again if you want another try.",
        )
    for kind in (OutcomeUnknown, ImageDownloadFailed):
        found = next((failure for failure in failures if isinstance(failure, kind)), None)
        if found is not None:
            return found
    return failures[0]
