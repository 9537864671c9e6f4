"""Structured logs on stderr: one line an event."""

from __future__ import annotations

import logging
import sys
from typing import List

import structlog


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
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not console:
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
