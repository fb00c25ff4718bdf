"""What the use cases need from the upstream; part of gateway.service.ports."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.domain.image import ImagePlan, PaidPicture
from gateway.domain.upstream import Account, CallFailure

Submitted = Callable[[str], Awaitable[None]]


class Upstream(Protocol):
    """One call to an account makes one picture (glm-image-api.md sections 1 and 2)."""

    async def make(self, account: Account, plan: ImagePlan, submitted: Submitted) -> PaidPicture:
        """Make and pay one picture.

        Where it is ordered and asked for, `submitted` is awaited with the order's id before the first question.

        Raises:
            CallFailed: the upstream refused, its answer was cut, or it cannot be reached and nothing was sent.
        """

    async def resume(self, account: Account, task_id: str) -> PaidPicture:
        """Go on asking for a picture that was ordered from the same account; CallFailed as above."""

    async def probe(self, account: Account, model: str) -> CallFailure:
        """Send a call that can make no picture, and give how the upstream refuses it.

        Fault.REQUEST: it knows the key, and would have made a picture for a whole order.
        """


class CallFailed(Exception):
    """A call that gave no picture, with what is known of the reason."""

    def __init__(self, failure: CallFailure) -> None:
        super().__init__(f"{failure.fault.name} (code {failure.code!r}, status {failure.status})")
        self.failure = failure
