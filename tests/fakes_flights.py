"""The port of flights in memory."""

import asyncio

from gateway.domain.flights import WITHDRAWN
from gateway.service.ports import QuotaUnavailable


class FakeFlights:
    """Notes what is told of jobs. `ends` are what is followed, by job and position; `wanted` answers `waiting`.

    While it is `down`, QuotaUnavailable is raised; while `gate` is not set, who follows waits. Who stands in line waits
    until `turns` is set, and is told whether it `has_place`. Of `doubtful` jobs this replica does not know by itself
    whether others have them by now; `taken_over` are those that others have.
    """

    def __init__(self):
        self.told = []
        self.ends = {}
        self.wanted = False
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.turns = asyncio.Event()
        self.has_place = True
        self.doubtful = set()
        self.taken_over = set()

    def lapsed(self, reservation):
        return reservation.claim.request_id in self.doubtful

    def sent(self, reservation, index):
        return self._noted("sent", reservation, index, ours=reservation.claim.request_id not in self.taken_over)

    def submitted(self, reservation, index, task):
        return self._noted("submitted", reservation, index, task)

    def paid(self, reservation, index, receipt):
        return self._noted("paid", reservation, index, receipt)

    async def finish(self, reservation, index, end):
        self._tell("finish", reservation, index, end)

    async def vacate(self, reservation):
        self._tell("vacate", reservation)

    async def turn(self, reservation):
        self._tell("turn", reservation)
        await self.turns.wait()
        return self.has_place

    async def follow(self, reservation, part):
        self._tell("follow", reservation, part)
        await self.gate.wait()
        return self.ends.get((part.job_id, part.index), WITHDRAWN)

    async def left(self, reservation):
        self._tell("left", reservation)

    async def waiting(self, reservation):
        self._tell("waiting", reservation)
        return self.wanted

    async def forget(self, reservation, hit):
        self._tell("forget", reservation, hit)

    def all(self, word):
        """Everything that was told with this word."""
        return [said for name, *said in self.told if name == word]

    def _noted(self, word, reservation, *said, ours=True):
        noted = asyncio.get_running_loop().create_future()
        try:
            self._tell(word, reservation, *said)
            noted.set_result(ours)
        except QuotaUnavailable as down:
            noted.set_exception(down)
            noted.exception()
        return noted

    def _tell(self, word, reservation, *said):
        if self.down:
            raise QuotaUnavailable("the store is down")
        self.told.append((word, reservation.claim.request_id, *said))
