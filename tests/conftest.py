"""Fixtures that start real servers once for all tests that use them."""

import logging
import os

import pytest
from hypothesis import settings

from tests import servers

logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line per request hides what a failing test has to say
settings.register_profile("default", max_examples=200, deadline=None)
settings.register_profile("thorough", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items):
    """Begin with what waits longest: at the end one worker would wait for it alone. Its order within files stays."""
    longest = ("tests/chaos/", "tests/e2e/", "tests/deploy/")
    items.sort(
        key=lambda item: next((at for at, path in enumerate(longest) if item.nodeid.startswith(path)), len(longest))
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Whatever a laptop may skip for want of a program fails in CI (.ci/run)."""
    report = yield
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"{item.nodeid} was skipped: {call.excinfo.value}"
    return report


@pytest.fixture(scope="session")
def anyio_backend():
    """The loop that the gateway runs on: it fails in words of its own."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def shared_simulator(tmp_path_factory):
    with servers.simulator(tmp_path_factory.mktemp("simulator")) as running:
        yield running


@pytest.fixture
def simulator(shared_simulator):
    """The shared simulator, healthy and with its counts at zero."""
    shared_simulator.reset()
    return shared_simulator


@pytest.fixture(scope="session")
def shared_gateway(tmp_path_factory, shared_simulator):
    with servers.gateway(tmp_path_factory.mktemp("gateway"), shared_simulator) as running:
        yield running


@pytest.fixture
def gateway(simulator, shared_gateway):
    """The shared gateway in front of the healthy simulator, with all its accounts."""
    shared_gateway.unpark()
    return shared_gateway
