"""Readers: what delivers pictures and may hang while it does."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from common.domain.errors import UnavailableError

# A camera that delivers no frame for so long is gone, whatever else it sends.
SILENCE_SECONDS = 10.0
SILENT = f"no frame for {SILENCE_SECONDS:.0f} s"


class LostError(UnavailableError):
    """The camera or the connection is gone; the text says how, without its name."""


@dataclass(frozen=True)
class Picture:
    """One decoded frame.

    Attributes:
        pixels: HxWx3, uint8, BGR.
        seconds: when it is shown, since the reader's first; None if the source does not say.
        duration_seconds: how long it is shown, if the source says.
    """

    pixels: np.ndarray
    seconds: float | None = None
    duration_seconds: float | None = None


class Reader(ABC):
    """Reads pictures in one thread, and can be closed by another, even while a read hangs.

    Attributes:
        damaged: frames left out so far because they could not be decoded.
    """

    damaged = 0

    def __init__(self) -> None:
        """Prepare."""
        self._busy = threading.Lock()
        self._closed = False

    def read(self) -> Picture | None:
        """The next picture; None at the end, or once it is closed.

        Raises:
            LostError: the camera or the connection is gone.
            TandemError: what comes cannot be decoded.
        """
        with self._busy:
            try:
                return None if self._closed else self._read()
            finally:
                if self._closed:
                    self._release()

    def close(self) -> None:
        """Release all; if a read hangs, as soon as it returns."""
        self._closed = True
        if self._busy.acquire(blocking=False):
            try:
                self._release()
            finally:
                self._busy.release()

    @abstractmethod
    def _read(self) -> Picture | None:
        """See `read`."""

    @abstractmethod
    def _release(self) -> None:
        """Release all; may be called twice."""
