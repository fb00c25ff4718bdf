"""The figures of a run as a table and as JSON."""

import json
import statistics
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime

COLUMNS = ("per_second", "cpu_ms", "p50", "p95", "p99", "rss", "rss_growth")
HEAD = (
    f"{'scenario':<44} {'req/s':>7} {'CPU ms':>7} {'x hello':>7} {'p50 ms':>7} {'p95 ms':>7} {'p99 ms':>7}"
    f" {'RSS MB':>7} {'growth':>7}"
)


class Report:
    """Gathers the rounds."""

    def __init__(self, about):
        self._about = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {about}"
        self._titles = {}
        self._rounds = defaultdict(list)
        self._said = []

    def add(self, scenario, figures):
        """Take down one round."""
        self._titles[scenario.name] = scenario.title
        self._rounds[scenario.name].append(figures)
        print(f"  {scenario.name}: {figures.cpu_ms:.3f} ms, {figures.per_second:.0f}/s", flush=True)

    def say(self, *lines):
        """Take down what is no row of the table."""
        self._said += [line for line in lines if line not in self._said]
        print("\n".join(lines), flush=True)

    def median(self, name, column):
        """Give the median of a column; None where it was not measured."""
        values = [getattr(figures, column) for figures in self._rounds.get(name, ())]
        return statistics.median(values) if values and None not in values else None

    def show(self):
        """Print the table."""
        print(f"\n{self._about}\n{HEAD}")
        floor = self.median("hello", "cpu_ms")
        for name, title in self._titles.items():
            row = {column: self.median(name, column) for column in COLUMNS}
            ratio = row["cpu_ms"] / floor if floor else None
            cells = [row["per_second"], row["cpu_ms"], ratio, *(row[column] for column in COLUMNS[2:])]
            label = title if name == "hello" else f"({name}) {title}"
            print(f"{label:<44} " + " ".join(map(_cell, cells, (0, 3, 1, 1, 1, 1, 0, 0))))
        print("\n".join(self._said))

    def json(self):
        """Write everything down, each round as it was measured."""
        rounds = {name: [asdict(figures) for figures in taken] for name, taken in self._rounds.items()}
        return json.dumps(
            {"about": self._about, "titles": self._titles, "rounds": rounds, "said": self._said}, indent=1
        )


def _cell(value, digits):
    return f"{'-':>7}" if value is None else f"{value:7.{digits}f}"
