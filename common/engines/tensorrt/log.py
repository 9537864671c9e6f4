"""TensorRT's log: passed on, and the errors kept, since its calls give no other reason."""

from __future__ import annotations

from collections import deque
from typing import Deque, List

import structlog
import tensorrt

_log = structlog.get_logger()
_KEPT = 50


class ReasonLog(tensorrt.ILogger):
    """Keeps the latest errors and warnings; TensorRT may write from threads of its own."""

    def __init__(self) -> None:
        """Start with nothing kept."""
        # pybind11 demands its own constructor by name, not through super().
        tensorrt.ILogger.__init__(self)
        self._errors: Deque[str] = deque(maxlen=_KEPT)

    # The base class is bound from C++, which calls by position; msg is its name there.
    def log(self, severity: tensorrt.ILogger.Severity, msg: str) -> None:
        """Take one message from TensorRT."""
        if int(severity) <= int(tensorrt.ILogger.ERROR):
            self._errors.append(msg)
            _log.warning("tensorrt", message=msg)
        elif int(severity) == int(tensorrt.ILogger.WARNING):
            _log.debug("tensorrt", message=msg)

    def take_errors(self) -> List[str]:
        """The errors since the last call, oldest first."""
        errors = list(self._errors)
        self._errors.clear()
        return errors
