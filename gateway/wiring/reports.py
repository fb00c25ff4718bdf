"""Opens what reports need: the database alone."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from gateway.adapters.sql.keys import SqlKeys
from gateway.adapters.sql.projects import SqlProjects
from gateway.adapters.sql.reports import SqlReports
from gateway.adapters.system import SystemClock
from gateway.service.report import ReportUsage
from gateway.settings import Settings
from gateway.wiring import open_database, prepare_data_dir


@asynccontextmanager
async def open_reports(settings: Settings) -> AsyncGenerator[ReportUsage]:
    """Open the ledger for reading. Misconfigured when the database cannot be used."""
    prepare_data_dir(settings.data_dir)
    async with open_database(settings) as engine:
        yield ReportUsage(SqlReports(engine), SqlProjects(engine), SqlKeys(engine), SystemClock())
