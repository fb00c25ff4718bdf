"""What a request may cost, as a multiple of the floor: measured with everything on, and gated on ratios alone."""

import json
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests import servers

BUDGETS = tomllib.loads((Path(__file__).parent / "budgets.toml").read_text("utf-8"))["most"]
OPTIONS = ("--no-peers", "--no-latency", "--rounds", "2", "--seconds", "1")


@pytest.fixture(scope="module")
def ratios(tmp_path_factory):
    """CPU of each scenario by CPU of the floor: the median over rounds that take turns."""
    file = tmp_path_factory.mktemp("bench") / "figures.json"
    names = ",".join(["hello", *BUDGETS])
    command = [sys.executable, "-m", "tests.bench", "--only", names, *OPTIONS, "--json", str(file)]
    done = subprocess.run(command, cwd=servers.ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rounds = json.loads(file.read_text("utf-8"))["rounds"]
    cost = {name: statistics.median(figures["cpu_ms"] for figures in taken) for name, taken in rounds.items()}
    return {name: cost[name] / cost["hello"] for name in BUDGETS}


@pytest.mark.parametrize("name", BUDGETS)
def test_a_request_costs_no_more_than_its_budget(ratios, name):
    assert ratios[name] <= BUDGETS[name], ratios
