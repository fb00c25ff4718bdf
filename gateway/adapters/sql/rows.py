"""Rows of projects and keys <-> the domain's values: limits are columns here and one value there."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from gateway.adapters.sql.tables import projects
from gateway.domain.keys import StoredKey
from gateway.domain.projects import Project
from gateway.domain.quota import Limits
from gateway.domain.terms import LIMIT_FIELDS

_OF_PROJECT = "project__"
PROJECT_COLUMNS = tuple(column.label(_OF_PROJECT + column.name) for column in projects.columns)


def values_of(record: Project | StoredKey, table: sa.Table) -> dict[str, Any]:
    """Give a value for each column of the table."""
    values = {name: getattr(record.limits, name) for name in LIMIT_FIELDS}
    if isinstance(record, StoredKey):
        values["project_id"] = record.project.id
    return {column.name: _value(record, column.name, values) for column in table.columns}


def project_of(row: sa.RowMapping) -> Project:
    """Read a row of projects."""
    return _project(_named(row))


def project_beside(row: sa.RowMapping) -> Project:
    """Read the project out of a row that has PROJECT_COLUMNS."""
    named = {name: value for name, value in _named(row).items() if name.startswith(_OF_PROJECT)}
    return _project({name.removeprefix(_OF_PROJECT): value for name, value in named.items()})


def key_of(row: sa.RowMapping) -> StoredKey:
    """Read a row of keys together with PROJECT_COLUMNS."""
    values = _named(row)
    project = {name.removeprefix(_OF_PROJECT): values.pop(name) for name in list(values) if _OF_PROJECT in name}
    values["project"] = _project(project)
    del values["project_id"]
    return StoredKey(**_with_limits(values))


def _project(values: Mapping[str, Any]) -> Project:
    return Project(**_with_limits(values))


def _named(row: sa.RowMapping) -> dict[str, Any]:
    return {str(name): value for name, value in row.items()}


def _value(record: Project | StoredKey, name: str, values: Mapping[str, Any]) -> object:
    return values[name] if name in values else getattr(record, name)


def _with_limits(values: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in values.items() if name not in LIMIT_FIELDS}
    return {**others, "limits": Limits(**{name: values[name] for name in LIMIT_FIELDS})}
