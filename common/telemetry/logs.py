"""Structured logs on stderr, one line for each event."""

from __future__ import annotations

import logging
import sys
from typing import Any, List, MutableMapping

import structlog

from common.domain.errors import shortened

_TRACEBACK_PART = 4000


def configure_logs(log_format: str, level: str) -> None:
    """Set up logging for the whole process; a `__main__` calls this once.

    Args:
        log_format: `json`, `console`, or `auto`, which is console on a terminal and else JSON.
        level: the lowest level that is written, by the name that `logging` has for it, in lower
            case.
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
    """Shorten every text of an event, because some are from strangers and may be long."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = shortened(value)
        elif isinstance(value, (bytes, tuple, list, dict)):
            event[name] = shortened(repr(value))
    return event


def shorten_traceback(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Cut the middle out of a long traceback, which may quote what a stranger sent."""
    traceback = event.get("exception")
    if isinstance(traceback, str) and len(traceback) > 2 * _TRACEBACK_PART:
        ends = traceback[:_TRACEBACK_PART], traceback[-_TRACEBACK_PART:]
        event["exception"] = "\n...\n".join(ends)
    return event
