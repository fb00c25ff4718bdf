"""Measures the gateway beside its peers: `python -m tests.bench [--only a,c] [--rounds N] [--seconds S] [--json FILE]`.

Scenarios take turns, in the opposite order every other round; figures are medians over the rounds. Ratios within one
run say more than the figures, which depend on the machine and on what else it does.
"""

import argparse
import contextlib
import os
import platform
import resource
import sys
import tempfile
from pathlib import Path

import uvloop

from tests.bench.drain import drained
from tests.bench.growth import grown
from tests.bench.peers import Missing
from tests.bench.report import Report
from tests.bench.scenarios import PEERS, SCENARIOS, Round
from tests.bench.stage import Stage


def options():
    parser = argparse.ArgumentParser(prog="glm-gateway bench", description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--only", default="", help="names of scenarios, a comma list; all of them by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each load lasts")
    parser.add_argument("--results", type=int, default=1_000_000, help="remembered results in scenario j")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-latency", action="store_true", help="measure CPU and memory only")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    return parser.parse_args()


def wanted(asked):
    """Give the scenarios that are asked for."""
    names = set(filter(None, asked.only.split(",")))
    known = SCENARIOS if asked.no_peers else (*SCENARIOS, *PEERS)
    return [scenario for scenario in known if not names or scenario.name in names], names


async def take_turns(stage, scenarios, asked, report):
    """Measure all scenarios, round after round."""
    rounds = Round(stage, asked.seconds, calm=not asked.no_latency)
    for number in range(asked.rounds):
        for scenario in scenarios if number % 2 == 0 else reversed(scenarios):
            try:
                report.add(scenario, await rounds.measure(scenario))
            except Missing as missing:
                report.say(str(missing))


def main():
    """Run the bench."""
    asked = options()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    scenarios, names = wanted(asked)
    report = Report(f"Python {platform.python_version()}, {os.cpu_count()} cores, {' '.join(sys.argv[1:])}")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stage = Stage(Path(folder), stack)
        uvloop.run(take_turns(stage, scenarios, asked, report))
        if not names or "i" in names:
            report.say(*drained(stage, Path(folder)))
        if not names or "j" in names:
            report.say(*uvloop.run(grown(stage, asked.results, asked.seconds)))
    report.show()
    if asked.json:
        asked.json.write_text(report.json(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
