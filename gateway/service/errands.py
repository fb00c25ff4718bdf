"""What is good to have done, and harms nobody when it is not."""

from collections.abc import Awaitable
from contextlib import suppress

from gateway.service.ports import QuotaUnavailable


async def quietly(errand: Awaitable[object]) -> None:
    """Do it, unless the store is away: then others learn of it from the job's settlement."""
    with suppress(QuotaUnavailable):
        await errand
