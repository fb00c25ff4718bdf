"""glm-gateway jobs: list, cancel."""

from dataclasses import asdict
from pathlib import Path

import rich_click as click

from gateway.cli.operating import operate
from gateway.cli.options import config_option
from gateway.cli.presenting import print_json, print_table
from gateway.cli.terms import json_option
from gateway.service.ports_flights import RunningJob
from gateway.wiring.administration import Operation


@click.group()
def jobs() -> None:
    """See the generations that run, and drop those that have not begun."""


@jobs.command("list")
@config_option
@json_option
def list_(config: Path | None, *, as_json: bool) -> None:
    """List what runs in the installation, the oldest first."""

    async def work(operation: Operation) -> None:
        found = await operation.jobs.list()
        if as_json:
            print_json([asdict(job) for job in found])
        else:
            print_table([("job", "state", "pictures", "seconds", "project", "key", "replica"), *map(_row, found)])

    operate(config, work)


@jobs.command()
@config_option
@click.argument("job_id", metavar="ID")
def cancel(config: Path | None, job_id: str) -> None:
    """Drop the pictures of a job that are not sent upstream yet; its client gets 503 for them."""

    async def work(operation: Operation) -> None:
        await operation.jobs.cancel(job_id)
        click.echo("What is not sent yet is dropped. What is sent is paid, and ends as it would have.")

    operate(config, work)


def _row(job: RunningJob) -> tuple[str, ...]:
    return (job.job_id, job.state, str(job.pictures), str(job.age), job.project_id, job.key_id, job.owner)
