"""Simulators in process; one whose pictures take no time serves most tests."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from gateway.simulator import SimulatorOptions, create_simulator
from tests.unit.simulator.serving import BEARER

Client = AsyncTestClient[Litestar]


@pytest.fixture
def a_simulator() -> Callable[..., AbstractAsyncContextManager[Client]]:
    """A client of a simulator with these options; it sends a good key unless told otherwise."""

    def build(**options: object) -> Client:
        client = AsyncTestClient(create_simulator(SimulatorOptions(**{"latency": 0.0, **options})))
        client.headers.update(BEARER)
        return client

    return build


@pytest.fixture
async def simulator(a_simulator: Callable[..., Client]) -> AsyncIterator[Client]:
    async with a_simulator() as client:
        yield client
