"""Structured logs on stderr: one line an event."""

from __future__ import annotations

import logging
import sys
from typing import Any, List, MutableMapping

import structlog

from common.domain.errors import shortened

_TRACEBACK_PART = 4000


def configure_logs(log_format: str, level: str) -> None:
    """Set up logging for the whole process; called once, from a `__main__`.

    Args:
        log_format: `json`, `console`, or `auto`: console on a terminal, else JSON.
        level: name of the lowest level written, as `logging` names it, in lower case.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if console
        else structlog.processors.JSONRenderer()
    )
    processors: List[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        shorten_values,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not console:
        processors += [structlog.processors.format_exc_info, shorten_traceback]
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def shorten_values(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Cut every text of an event: some are words of strangers, which may be long."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = shortened(value)
        elif isinstance(value, (bytes, tuple, list, dict)):
            event[name] = shortened(repr(value))
    return event


def shorten_traceback(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Cut the middle out of a long traceback: what was raised may quote what a stranger sent."""
    traceback = event.get("exception")
    if isinstance(traceback, str) and len(traceback) > 2 * _TRACEBACK_PART:
        ends = traceback[:_TRACEBACK_PART], traceback[-_TRACEBACK_PART:]
        event["exception"] = "\n...\n".join(ends)
    return event
