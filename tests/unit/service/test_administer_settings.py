"""A call on all replicas: who has answered, and how long the others are waited for."""

import pytest

from gateway.service.administer_settings import PATIENCE, AdministerSettings
from gateway.service.ports_reloads import Reloaded
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio
ONE, TWO, BAD = Reloaded(replica="1"), Reloaded(replica="2"), Reloaded(replica="2", refused="wrong")


class FakeReloads:
    """Answers come one by one, each time that they are asked for."""

    def __init__(self, heard, *answers):
        self.heard, self.coming, self.calls = heard, list(answers), []

    async def call(self, call):
        self.calls.append(call)
        return self.heard

    async def answers(self, call):
        assert call in self.calls
        self.coming, come = self.coming[1:], self.coming[:1]
        self.come = [*getattr(self, "come", []), *come]
        return self.come


async def called(heard, *answers, clock=None):
    reloads = FakeReloads(heard, *answers)
    return await AdministerSettings(reloads, clock or FakeClock(), lambda: "a name").reload()


@pytest.mark.parametrize(
    ("heard", "answers", "well"), [(2, [ONE, TWO], True), (2, [ONE, BAD], False), (1, [ONE], True), (0, [], False)]
)
async def test_all_are_waited_for_and_one_refusal_is_one_too_many(heard, answers, well):
    said = await called(heard, *answers)
    assert (said.heard, list(said.answers), said.well) == (heard, answers, well)


async def test_who_does_not_answer_is_not_waited_for_for_ever():
    clock = FakeClock()
    said = await called(3, ONE, TWO, clock=clock)
    assert (len(said.answers), said.well) == (2, False)
    assert PATIENCE < sum(clock.slept) < PATIENCE + 1
