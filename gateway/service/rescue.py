"""Brings jobs to their end whose replica died after their pictures had been paid or ordered."""

import asyncio

from gateway.domain.billing import Tariff
from gateway.domain.errors import ClientLeft, GatewayError, ImageDownloadFailed, OutcomeUnknown
from gateway.domain.flights import WITHDRAWN, End, Ending, Receipt
from gateway.domain.image import Picture
from gateway.service.books import Books, Ends
from gateway.service.errands import quietly
from gateway.service.jobs import Jobs
from gateway.service.keeping import Keeping
from gateway.service.offers import Offers
from gateway.service.ports import Clock
from gateway.service.ports_flights import FlightStore, Orphan
from gateway.service.reserve import Reservations
from gateway.service.resuming import Resuming


class Rescue:
    """Asks for what is ordered, fetches it, and settles the job under its own id: nothing is paid again."""

    def __init__(  # noqa: PLR0913 - what it takes to end a job that another has begun
        self,
        keeping: Keeping,
        flights: FlightStore,
        reservations: Reservations,
        books: Books,
        errands: Jobs,
        clock: Clock,
        *,
        resuming: Resuming,
        offers: Offers,
    ) -> None:
        self._keeping = keeping
        self._resuming = resuming
        self._offers = offers
        self._flights = flights
        self._reservations = reservations
        self._books = books
        self._errands = errands
        self._clock = clock

    def __call__(self, orphan: Orphan) -> None:
        """Take a job over."""
        _ = self._errands.start(self._rescue(orphan))

    async def _rescue(self, orphan: Orphan) -> None:
        claim = orphan.reservation.claim
        leads = [lead.index for lead in orphan.reservation.leads]
        ends = await asyncio.gather(*(self._end(orphan, position) for position in leads))
        seen = orphan.ends.keys() | orphan.receipts.keys() | orphan.tasks.keys()
        unseen = set(leads) - seen  # followers make them
        line = claim.abandoned
        tariff = Tariff(price=claim.price, currency=line.currency).at(self._offers.now.accounts, line.upstream_model)
        done = self._books.close(line, Ends(all=ends, made=ends), tariff, now=self._clock.now())
        pairs = zip(leads, ends, strict=True)
        ending = Ending(ends={at: WITHDRAWN if at in unseen else End.of(end) for at, end in pairs})
        await self._reservations.settle(orphan.reservation, done.pictures_delivered, done, ending)

    async def _end(self, orphan: Orphan, position: int) -> Picture | GatewayError:
        """Find out how a picture ended, or bring it to its end."""
        end, receipt = orphan.ends.get(position), orphan.receipts.get(position)
        if end is not None and end.picture is not None and (end.picture.image or receipt is None or receipt.linked):
            return end.picture
        error = end.failure.error() if end is not None and end.failure is not None else None
        if error is not None and not isinstance(error, ImageDownloadFailed):
            return error
        if receipt is not None:
            return await self._fetch(orphan, position, receipt)
        if position in orphan.tasks:
            return await self._resume(orphan, position)
        if position in orphan.sent:
            return OutcomeUnknown("The replica that had sent the call died before its answer came.")
        return ClientLeft("The replica that led the job died before the picture was sent.")

    async def _resume(self, orphan: Orphan, position: int) -> Picture | GatewayError:
        """Ask for what is ordered, then go on as with any receipt."""
        receipt = await self._resuming(orphan.tasks[position])
        if isinstance(receipt, GatewayError):
            return receipt
        await quietly(self._flights.paid(orphan.reservation, position, receipt))
        return await self._fetch(orphan, position, receipt)

    async def _fetch(self, orphan: Orphan, position: int, receipt: Receipt) -> Picture | GatewayError:
        """Store what is paid; who waits for it is told when that takes longer than a client can be let wait."""
        try:
            return await self._keeping.keep_orphaned(receipt)
        except ImageDownloadFailed as failure:
            if failure.final:
                return failure
            await quietly(self._flights.finish(orphan.reservation, position, End.of(failure)))
            await quietly(self._flights.vacate(orphan.reservation))
            return await self._keeping.keep_late(receipt)
