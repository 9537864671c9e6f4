"""Readers: what delivers pictures and may hang while it does."""

from __future__ import annotations

import io
import os
import select
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.video import AccessUnit, VideoFormat
from tandem.pictures import quiet_opencv
from tandem.sources.decoding import DecodeUnit

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


@dataclass(frozen=True)
class EncodedPicture:
    """One frame as it was encoded.

    Attributes:
        unit: its access unit.
        video: what that is of.
        decode: makes pixels of the reader's access units.
        seconds: as of a `Picture`.
        duration_seconds: likewise.
    """

    unit: AccessUnit
    video: VideoFormat
    decode: DecodeUnit
    seconds: float | None = None
    duration_seconds: float | None = None


ReadFrame: TypeAlias = "Picture | EncodedPicture"


class Reader(ABC):
    """Reads pictures in one thread, and can be closed by another, even while a read hangs.

    Attributes:
        damaged: frames left out so far because they could not be decoded.
        passes: see `FFmpegReader`, as for the other; of no effect where frames are not encoded.
        not_passed: likewise.
    """

    damaged = 0
    passes = False
    not_passed: str | None = None

    def __init__(self) -> None:
        """Prepare."""
        self._busy = threading.Lock()
        self._closed = False

    def read(self) -> ReadFrame | None:
        """The next frame; None at the end, or once it is closed.

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
    def _read(self) -> ReadFrame | None:
        """See `read`."""

    @abstractmethod
    def _release(self) -> None:
        """Release all; may be called twice."""


class CameraReader(Reader):
    """One opened camera.

    Attributes:
        frames_per_second: as the camera says; None if it does not.
    """

    timed = False

    def __init__(self, device: int | str, name: str) -> None:
        """Open.

        Args:
            device: the camera's number, or its path.
            name: for people.

        Raises:
            UnavailableError: there is none, or another program holds it.
        """
        super().__init__()
        self._capture = _open(device)
        if not self._capture.isOpened():
            raise UnavailableError(f"there is no {name} here, or another program holds it")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_second = rate if 0 < rate < float("inf") else None

    def _read(self) -> Picture | None:
        # OpenCV itself waits ten seconds for a frame, no longer.
        try:
            with quiet_opencv():
                grabbed, pixels = self._capture.read()
        except cv2.error as error:
            raise LostError("it delivers no pictures any more") from error
        return Picture(pixels) if grabbed else None

    def _release(self) -> None:
        self._capture.release()


def _open(device: int | str) -> cv2.VideoCapture:
    is_device = isinstance(device, str) and device.startswith("/dev/")
    with quiet_opencv():
        return cv2.VideoCapture(device, cv2.CAP_V4L2 if is_device else cv2.CAP_ANY)


class PipeFile:
    """The reading end of a named pipe, or of one that a shell made."""

    def __init__(self, path: Path, name: str) -> None:
        """Open; does not wait for the writer.

        Raises:
            InvalidInputError: it cannot be opened.
        """
        self._name = name
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise InvalidInputError(f"{name} cannot be read: {error.strerror}") from error
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; none once the writer has closed its end.

        Raises:
            UnavailableError: nobody writes into it.
        """
        if not self._poll.poll(1000 * SILENCE_SECONDS):
            raise UnavailableError(f"nothing came out of {self._name} for {SILENCE_SECONDS:.0f} s")
        return os.read(self._descriptor, size if size > 0 else io.DEFAULT_BUFFER_SIZE)

    def close(self) -> None:
        """Close the reading end."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
