"""Whether the quota store is away, and what that means for limits."""

from collections.abc import Callable


class QuotaOutage:
    """Follows whether the quota store answers. `allow`: while it does not, requests are served without limits.

    `limits_switched` is told once whenever limits go off (True) or come back (False).
    """

    def __init__(self, limits_switched: Callable[[bool], None], *, allow: bool) -> None:
        self._limits_switched = limits_switched
        self.allow = allow
        self.away = False

    @property
    def limits_off(self) -> bool:
        """Tell whether requests are served without limits."""
        return self.allow and self.away

    def note(self, *, away: bool) -> None:
        """Take note of whether the store answered just now."""
        before, self.away = self.limits_off, away
        if self.limits_off != before:
            self._limits_switched(self.limits_off)
