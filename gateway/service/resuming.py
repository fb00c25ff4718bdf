"""Orders of dead replicas: asked for until it is known what became of them."""

from gateway.domain.errors import GatewayError, OutcomeUnknown
from gateway.domain.flights import Receipt, Task
from gateway.domain.upstream import Fault, outward
from gateway.service.offers import Offers
from gateway.service.ports_upstream import CallFailed, Upstream

# Nobody orders again after these. After any other the dead replica may have: what became of that is not known.
_FINAL = {Fault.CONTENT, Fault.PROMPT_TOO_LONG, Fault.MODEL, Fault.REQUEST}


class Resuming:
    """Goes on where a replica died that had ordered a picture, as long as its account is on offer."""

    def __init__(self, upstream: Upstream, offers: Offers) -> None:
        self._upstream = upstream
        self._offers = offers

    async def __call__(self, task: Task) -> Receipt | GatewayError:
        """Ask for a picture until it is paid, or give what became of it."""
        account = self._offers.now.account(task.account)
        if account is None:
            return _lost("The account that it had ordered the picture from is not in the settings any more.")
        try:
            return Receipt(paid=await self._upstream.resume(account, task.id), account=account.name)
        except CallFailed as failed:
            if failed.failure.fault in _FINAL:
                return outward(failed.failure)
            return _lost("What became of the picture that it had ordered cannot be told.")


def _lost(reason: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"The replica that had sent the call died. {reason}")
