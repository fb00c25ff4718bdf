"""Lets all replicas read their settings anew."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.service.ports import Clock
from gateway.service.ports_reloads import Reloaded, Reloads

PATIENCE, PAUSE = 20.0, 0.05  # seconds that replicas are waited for, and between two looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What came of a call: so many replicas heard it, and these have answered."""

    heard: int
    answers: Sequence[Reloaded]

    @property
    def well(self) -> bool:
        """Tell whether the settings are in place wherever they were called for."""
        return 0 < self.heard <= len(self.answers) and not any(answer.refused for answer in self.answers)


class AdministerSettings:
    """The operator's use case. `name_call` gives a name that no other call has."""

    def __init__(self, reloads: Reloads, clock: Clock, name_call: Callable[[], str]) -> None:
        self._reloads = reloads
        self._clock = clock
        self._name_call = name_call

    async def reload(self) -> Called:
        """Call on all replicas and wait for what they say, for a while; QuotaUnavailable."""
        call, began = self._name_call(), self._clock.monotonic()
        heard = await self._reloads.call(call)
        while True:
            answers = await self._reloads.answers(call)
            if len(answers) >= heard or self._clock.monotonic() - began > PATIENCE:
                return Called(heard=heard, answers=answers)
            await self._clock.sleep(PAUSE)
