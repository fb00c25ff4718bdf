"""Which account makes a picture, when, and what is tried again."""

from functools import partial
from typing import Protocol

from gateway.domain.errors import QueueTimedOut
from gateway.domain.flights import Receipt
from gateway.domain.image import ImageOrder, ImagePlan, Picture
from gateway.domain.upstream import Account, CallFailure, Fault, Rule, outward, park_of, rule_of
from gateway.service.keeping import Keeping
from gateway.service.offers import Offers
from gateway.service.ports import Clock, Observer
from gateway.service.ports_upstream import CallFailed, Upstream
from gateway.service.slots import Slot, Slots, Wish


class Progress(Protocol):
    """Who is told how far a picture is."""

    def waited(self, seconds: float) -> None:
        """The wait for a slot is over, with one or without."""

    async def sent(self, account: Account) -> None:
        """The call of an account begins: from now on the picture may be paid; TakenOver: it is not to begin."""

    def turned_away(self) -> None:
        """The call made nothing, and the picture waits again."""

    async def submitted(self, account: str, task_id: str) -> None:
        """The picture is ordered, and the account of this name is asked for it."""

    async def paid(self, receipt: Receipt) -> None:
        """The picture is paid, and not downloaded yet."""


class PictureMaker(Protocol):
    """What makes one picture of an order."""

    async def make(self, order: ImageOrder, wish: Wish, progress: Progress) -> Picture:
        """Make, pay, download and store it; GatewayError."""
        ...


class Dispatch:
    """Makes pictures with the accounts on offer."""

    def __init__(
        self,
        upstream: Upstream,
        keeping: Keeping,
        slots: Slots,
        clock: Clock,
        observer: Observer,
        offers: Offers,
    ) -> None:
        self._upstream = upstream
        self._keeping = keeping
        self._slots = slots
        self._clock = clock
        self._observer = observer
        self._offers = offers

    async def make(self, order: ImageOrder, wish: Wish, progress: Progress) -> Picture:
        """Make, pay, download and store one picture.

        Raises:
            GatewayError: what became of it, in words for the client.
            TakenOver: it is not this job's to make any more.
        """
        receipt = await self._pay(order, wish, progress)
        await progress.paid(receipt)
        picture = await self._keeping.keep(receipt)
        self._observer.picture_delivered(order.plan)
        return picture

    async def _pay(self, order: ImageOrder, wish: Wish, progress: Progress) -> Receipt:
        """Find an account that makes the picture; what one turns away keeps its place in the queue."""
        place, failure = 0, None
        while True:
            try:
                with await self._slots.take(wish, place=place, waited=progress.waited) as slot:
                    end = await self._ask(slot, order, progress)
                    if isinstance(end, CallFailure):
                        progress.turned_away()
                        await self._turn_away(slot, order.plan, end)
            except QueueTimedOut:
                if failure is None:
                    raise
                raise outward(failure) from None
            if isinstance(end, Receipt):
                return end
            place, failure = slot.place, end or failure

    async def _ask(self, slot: Slot, order: ImageOrder, progress: Progress) -> Receipt | CallFailure | None:
        """Call, and again where that may help; a failure is given when another account, or this one later, may do.

        None when the account is not on offer any more, or has another key, before it could be asked again.
        """
        tries, began = 0, self._clock.monotonic()
        while True:
            started = self._clock.monotonic()
            try:
                return await self._call(slot, order, progress)
            except CallFailed as failed:
                failure, rule = failed.failure, rule_of(failed.failure)
            if self._leaves(rule, slot, order.plan):
                return failure
            if tries >= len(rule.waits) or self._is_late(began, started, rule.waits[tries]):
                raise outward(failure)
            progress.turned_away()  # nothing was made, and who gives up meanwhile does not send it again
            await self._clock.sleep(rule.waits[tries])
            if self._offers.now.account(slot.account.name, slot.account.fingerprint) is None:
                return None
            tries += 1

    def _leaves(self, rule: Rule, slot: Slot, plan: ImagePlan) -> bool:
        """Tell whether the slot is given back, for another account or for later."""
        if rule.rest and rule.waits:
            return self._slots.has_other(plan.model, slot.account)
        return rule.elsewhere or rule.rest is not None

    def _is_late(self, began: float, started: float, wait: float) -> bool:
        """Tell whether one more try, if it took as long as the last one, would end later than any call may."""
        now = self._clock.monotonic()
        return now - began + wait + now - started > self._offers.now.longest_call

    async def _call(self, slot: Slot, order: ImageOrder, progress: Progress) -> Receipt:
        account, plan = slot.account, order.plan
        if obstacle := self._keeping.obstacle(order):  # it may have come while the picture waited
            raise obstacle
        await progress.sent(account)
        slot.went("cut", self._offers.now.longest_call)  # until its end is seen
        started = self._clock.monotonic()
        try:
            paid = await self._upstream.make(account, plan, partial(progress.submitted, account.name))
        except CallFailed as failed:
            if failed.failure.fault is not Fault.CUT:
                slot.went("none")
            self._tell(account, plan, failed.failure)
            raise
        seconds = self._clock.monotonic() - started
        slot.went("made", seconds)
        self._observer.picture_paid(account, plan, seconds)
        return Receipt(paid=paid, account=account.name, linked=order.linked)

    async def _turn_away(self, slot: Slot, plan: ImagePlan, failure: CallFailure) -> None:
        """Leave an account alone that cannot make pictures, or not as many at once."""
        if failure.fault is Fault.RATE:
            slot.went("rate")
        elif park := park_of(failure, slot.account.name, self._clock.now()):
            await self._slots.park(slot.account, plan.model, park)

    def _tell(self, account: Account, plan: ImagePlan, failure: CallFailure) -> None:
        detail = f"code {failure.code or '-'}, status {failure.status}: {failure.detail}"
        self._observer.call_failed(account, plan, failure.fault, detail)
