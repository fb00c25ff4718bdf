"""Which of several failures is the answer."""

import asyncio
from collections.abc import Sequence

from gateway.domain.errors import ImageDownloadFailed, OutcomeUnknown


def worst_of(ends: Sequence[object]) -> BaseException:
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
