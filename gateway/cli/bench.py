"""glm-gateway bench."""

import subprocess
import sys
from pathlib import Path

import rich_click as click

HOME = Path(__file__).parents[2]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def bench(options: tuple[str, ...]) -> None:
    """Measure the gateway beside LiteLLM and Portkey, in a checkout of the repository.

    OPTIONS: --only a,c  --rounds 3  --seconds 4  --results 1000000  --no-peers  --json FILE. README.md says what each
    scenario is; '.ci/setup bench' installs the peers.
    """
    if not (HOME / "tests" / "bench" / "__main__.py").is_file():
        raise click.ClickException("The bench is part of the repository: clone it, and run 'make bench' there.")
    command = [sys.executable, "-m", "tests.bench", *options]
    sys.exit(subprocess.run(command, cwd=HOME, check=False).returncode)  # noqa: S603 - the operator's own words
