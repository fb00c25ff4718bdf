"""Whether this replica may have been taken for dead, as far as it can tell by itself."""

import time


class Lease:
    """The lease of one replica, renewed for `seconds` at a time. A process that stood still may have lost it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since, self._until = float("inf"), float("-inf")  # by the monotonic clock, which goes on meanwhile

    def renewed(self, asked: float) -> None:
        """Take note that a renewal went well that was asked for at this time."""
        if asked > self._until:
            self._since = asked
        self._until = asked + self.seconds

    def covers(self, began: float) -> bool:
        """Tell whether it has not ended since then for sure."""
        return self._since <= began and time.monotonic() < self._until
