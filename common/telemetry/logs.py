"""Structured logs on stderr, one line for each event."""

from __future__ import annotations

import logging
import sys
from pathlib import PurePath
from typing import Any, List, MutableMapping, Optional

import structlog

from common.domain.errors import shortened
from common.domain.redaction import escaped, masked

# Of a text that is looked through for secrets; what is written is far shorter.
_MOST_CHARACTERS = 4096
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
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if console
        else structlog.processors.JSONRenderer()
    )
    processors: List[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        shorten_values,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        shorten_traceback,
    ]
    if console:
        # JSON escapes control characters itself.
        processors.append(escape_values)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.getLogger().addHandler(_OfLibraries(logging.WARNING))


class _OfLibraries(logging.Handler):
    """Writes what libraries tell by `logging` as all else is written: it may be of strangers."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            log = structlog.get_logger()
            write = log.error if record.levelno >= logging.ERROR else log.warning
            write(record.getMessage(), logger=record.name, exc_info=record.exc_info)
        except Exception:
            self.handleError(record)


def shorten_values(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Shorten every text of an event, because some are from strangers, and take secrets out."""
    for name, value in event.items():
        text = _text_of(value)
        if text is not None:
            # In this order: the rest of a secret would not be known for one.
            event[name] = shortened(masked(text[:_MOST_CHARACTERS]))
    return event


def _text_of(value: Any) -> Optional[str]:
    """What a renderer would write of a value; None for numbers and the like, and for tracebacks."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, tuple, list, dict)):
        # exc_info, of which a later step makes a text.
        is_exception = isinstance(value, tuple) and len(value) == 3 and isinstance(value[0], type)
        return None if is_exception else repr(value)
    return str(value) if isinstance(value, PurePath) else None


def shorten_traceback(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Cut the middle out of a long traceback, which may quote what a stranger sent, and secrets."""
    traceback = event.get("exception")
    if isinstance(traceback, str):
        if len(traceback) > 2 * _TRACEBACK_PART:
            ends = traceback[:_TRACEBACK_PART], traceback[-_TRACEBACK_PART:]
            traceback = "\n...\n".join(ends)
        event["exception"] = masked(traceback)
    return event


def escape_values(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Escape what would steer the terminal that an event is shown on; see `redaction.escaped`."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escaped(value, keep="\n" if name == "exception" else "")
    return event
