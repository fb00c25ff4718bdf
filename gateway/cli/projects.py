"""glm-gateway projects: create, list, show, rename, archive, unarchive, limits."""

from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.options import clear_failures, config_option, text_option
from gateway.cli.presenting import limits_said, moment, print_facts, print_json, print_table, project_facts
from gateway.cli.terms import administer, json_option, project_options, read_terms
from gateway.domain.projects import Project
from gateway.service.administration import Administration

_project = click.argument("project", metavar="PROJECT")


@click.group()
def projects() -> None:
    """Make, limit and archive the projects that keys belong to; each is named by its name or its id."""


@projects.command()
@config_option
@text_option("--name", required=True, help="The name; no two projects have the same.")
@project_options
@json_option
def create(config: Path | None, name: str, *, as_json: bool, **words: Any) -> None:  # noqa: ANN401 - click's options
    """Make a project."""
    with clear_failures():
        terms = read_terms(words, config)

    async def work(administration: Administration) -> None:
        _print_project(await administration.projects.create(name, terms), as_json=as_json)

    administer(config, work)


@projects.command("list")
@config_option
@json_option
def list_(config: Path | None, *, as_json: bool) -> None:
    """List the projects, oldest first."""

    async def work(administration: Administration) -> None:
        found = await administration.projects.list()
        if as_json:
            print_json([project_facts(project) for project in found])
        else:
            print_table([("id", "state", "created", "name", "weight", "limits"), *map(_row, found)])

    administer(config, work)


@projects.command()
@config_option
@_project
@json_option
def show(config: Path | None, project: str, *, as_json: bool) -> None:
    """Show all about a project."""

    async def work(administration: Administration) -> None:
        _print_project(await administration.projects.find(project), as_json=as_json)

    administer(config, work)


@projects.command()
@config_option
@_project
@click.argument("name")
@json_option
def rename(config: Path | None, project: str, name: str, *, as_json: bool) -> None:
    """Give a project another name."""

    async def work(administration: Administration) -> None:
        _print_project(await administration.projects.rename(project, name), as_json=as_json)

    administer(config, work)


@projects.command()
@config_option
@_project
def archive(config: Path | None, project: str) -> None:
    """Refuse all keys of a project until it is unarchived; running gateways do within a second."""

    async def work(administration: Administration) -> None:
        archived = await administration.projects.archive(project)
        click.echo(f"Project {archived.name!r} is archived.", err=True)

    administer(config, work)


@projects.command()
@config_option
@_project
def unarchive(config: Path | None, project: str) -> None:
    """Let the keys of an archived project open again; running gateways do within a second."""

    async def work(administration: Administration) -> None:
        unarchived = await administration.projects.unarchive(project)
        click.echo(f"Project {unarchived.name!r} is active.", err=True)

    administer(config, work)


@projects.command()
@config_option
@_project
@project_options
@json_option
def limits(config: Path | None, project: str, *, as_json: bool, **words: Any) -> None:  # noqa: ANN401 - click's options
    """Change what is named and nothing else; the value `none` clears it. Running gateways know within a second."""
    with clear_failures():
        terms = read_terms(words, config)

    async def work(administration: Administration) -> None:
        _print_project(await administration.projects.change(project, terms), as_json=as_json)

    administer(config, work)


def _print_project(project: Project, *, as_json: bool) -> None:
    (print_json if as_json else print_facts)(project_facts(project))


def _row(project: Project) -> tuple[str, ...]:
    state = "archived" if project.archived_at else "active"
    return (
        project.id,
        state,
        moment(project.created_at),
        project.name,
        str(project.weight),
        limits_said(project.limits),
    )
