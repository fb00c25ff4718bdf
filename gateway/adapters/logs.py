"""Structured events on standard error: text on a terminal, JSON elsewhere."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

from gateway.adapters.redaction import redact
from gateway.service.ports_requests import SERVED

Form = Literal["auto", "json", "text"]


def is_text(form: Form) -> bool:
    """Tell whether lines are for people."""
    return form == "text" or (form == "auto" and sys.stderr.isatty())


def configure(level: str, form: Form, *, redacting: bool = True) -> None:
    """Set up structlog, and send the warnings of libraries through it; secrets are hidden in both."""
    text = is_text(form)
    renderer = structlog.dev.ConsoleRenderer() if text else structlog.processors.JSONRenderer(ensure_ascii=False)
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        _name_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shared.append(structlog.processors.format_exc_info)  # before secrets are hidden: a trace may hold some
    if redacting:
        shared.append(redact)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    steps = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=steps, foreign_pre_chain=shared))
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)


def _name_request(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Say which request an event belongs to; structlog's own way costs 3 us a request."""
    return {**event, **SERVED.get({})}


def logger() -> structlog.typing.FilteringBoundLogger:
    """Give the gateway's logger."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return bound
