"""Takes what a request needs from the limits of its key and project, and sees to it that it is given back."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from gateway.domain.errors import LimitReached, QuotaExhausted, QuotaStoreDown, RateLimitReached
from gateway.domain.flights import Ending
from gateway.domain.limits import SHORT, Limit, Room
from gateway.domain.quota import Claim, Refusal, Reservation, cost_of_one
from gateway.domain.terms import money_text
from gateway.domain.usage import UsageEvent
from gateway.service.jobs import Jobs
from gateway.service.ports import Clock, QuotaEmptied, QuotaRestoring, QuotaStore, QuotaUnavailable, Settlement
from gateway.service.settlements import Settlements

RELEASE_PAUSE = 1.0  # seconds between tries to give back what a reserve without an answer may have taken


class Reservations:
    """The quota store as the flow of a request uses it.

    `on_outage` says what happens while the store cannot be reached: `refuse`, or `allow` without limits.
    """

    def __init__(
        self,
        store: QuotaStore,
        settlements: Settlements,
        refill: Callable[[int], Awaitable[None]],
        jobs: Jobs,
        clock: Clock,
        *,
        on_outage: Literal["refuse", "allow"],
    ) -> None:
        self._store = store
        self._settlements = settlements
        self._refill = refill
        self._jobs = jobs
        self._clock = clock
        self._on_outage = on_outage
        self._shadow_watchers: list[Callable[[Room], None]] = []

    def watch_shadows(self, watcher: Callable[[Room], None]) -> None:
        """Tell of each limit that would have refused if it did not count and report only."""
        self._shadow_watchers.append(watcher)

    async def take(self, claim: Claim) -> Reservation:
        """Take the request, its pictures and their price, or nothing.

        Raises:
            InvalidValue: no empty window could hold so many pictures.
            LimitReached: a limit stands in the way.
            QuotaStoreDown: limits cannot be checked.
            LedgerBehind: too many lines wait for the ledger.
        """
        self._settlements.refuse_when_behind()
        try:
            answer = await self._reserve(claim)
        except asyncio.CancelledError:
            _ = self._jobs.start(self._give_back(claim))  # the reserve may be on its way, or its answer
            raise
        except QuotaUnavailable as failure:
            _ = self._jobs.start(self._give_back(claim))
            if self._on_outage == "allow":
                return self._store.assumed(claim)
            raise QuotaStoreDown(
                "The gateway cannot check limits now. Nothing was charged; try again after a short wait.",
            ) from failure
        if isinstance(answer, Refusal):
            for subject in claim.subjects:
                subject.limits.refuse_too_many(claim.pictures, claim.price)
            raise self._reached(claim, answer.room)
        return self._reported(answer)

    async def settle(
        self, reservation: Reservation, charged: int, event: UsageEvent, ending: Ending | None = None
    ) -> None:
        """Charge what was delivered and write the ledger's line; without an answer, that is done later."""
        settlement = Settlement(
            reservation=reservation, charged=charged, event=event, ending=ending, since=self._clock.now()
        )
        await self._settlements.settle(settlement)

    async def _reserve(self, claim: Claim) -> Reservation | Refusal:
        """Reserve; when the store has lost its counts, wait until they are back."""
        while True:
            try:
                return await self._store.reserve(claim)
            except QuotaEmptied as emptied:
                await self._refill(emptied.shard)
            except QuotaRestoring as restoring:
                await self._clock.sleep(restoring.wait)

    async def _give_back(self, claim: Claim) -> None:
        """Undo a reserve whose answer was not seen, as soon as the store can be reached again."""
        while True:
            try:
                await self._store.release(claim)
            except QuotaUnavailable:
                await self._clock.sleep(RELEASE_PAUSE)
            else:
                return

    def _reported(self, reservation: Reservation) -> Reservation:
        """Tell of limits that count and report only; they are none to the client."""
        for room in reservation.shadowed:
            for watcher in self._shadow_watchers:
                watcher(room)
        for subject in reservation.claim.subjects:
            if subject.limits.shadow:
                return replace(reservation, rooms=reservation.enforced)
        return reservation

    def _reached(self, claim: Claim, room: Room) -> LimitReached:
        """Say which limit, its value, and when it frees, if ever."""
        whose, currency = room.subject.partition(".")[0], claim.abandoned.currency
        said = f"{room.limit.value} of this {whose}: limit {_amount(room.limit, room.value, currency)}"
        if room.value < cost_of_one(room.limit, claim.price):
            return QuotaExhausted(f"{said} lets no picture pass. Ask the gateway's operator for a higher one.", room)
        said += f", used {_amount(room.limit, room.used, currency)}"
        if room.limit in SHORT:
            seconds = max(room.resets_in, 1000) / 1000
            return RateLimitReached(f"Rate limit reached: {said}. Please try again in {seconds:.1f}s.", room)
        resets_at = self._clock.now() + timedelta(milliseconds=room.resets_in)
        return QuotaExhausted(f"You exceeded your quota: {said}. It resets at {resets_at:%Y-%m-%d %H:%M} UTC.", room)


def _amount(limit: Limit, value: int, currency: str) -> str:
    return f"{money_text(value)} {currency}" if limit is Limit.SPEND_PER_MONTH else str(value)
