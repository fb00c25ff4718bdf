"""What a request may cost, as a multiple of the floor: measured with everything on, and gated on ratios alone."""

import json
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import servers

MOST = tomllib.loads((Path(__file__).parent / "budgets.toml").read_text("utf-8"))
BUDGETS, CARRYING = MOST["most"], MOST["carrying"]
OPTIONS = ("--no-peers", "--no-latency", "--rounds", "2", "--seconds", "1")


@pytest.fixture(scope="module")
def ratios(tmp_path_factory):
    """CPU of each scenario by CPU of the floor: the median over rounds that take turns."""
    names = ",".join(["hello", *BUDGETS])
    rounds = measured(tmp_path_factory, "tests.bench", "--only", names, *OPTIONS)["rounds"]
    cost = {name: statistics.median(figures["cpu_ms"] for figures in taken) for name, taken in rounds.items()}
    return {name: cost[name] / cost["hello"] for name in BUDGETS}


@pytest.fixture(scope="module")
def carrying(tmp_path_factory):
    """CPU of a line on its way into SQL, by CPU of SQLite alone: medians too."""
    cost = measured(tmp_path_factory, "tests.bench.carrying", "--rounds", "3")
    return {name: cost[name] / cost["bare"] for name in CARRYING}


def measured(tmp_path_factory, *words):
    """Run a bench in a process of its own and give its figures."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    command = [sys.executable, "-m", *words, "--json", str(file)]
    done = subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text("utf-8"))


@pytest.mark.parametrize("name", BUDGETS)
def test_a_request_costs_no_more_than_its_budget(ratios, name):
    assert ratios[name] <= BUDGETS[name], ratios


@pytest.mark.parametrize("name", CARRYING)
def test_a_line_costs_no_more_than_its_budget(carrying, name):
    assert carrying[name] <= CARRYING[name], carrying
