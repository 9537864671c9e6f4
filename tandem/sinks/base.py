"""What every sink has in common."""

from __future__ import annotations

import errno
import json
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np

from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from common.files import Replacement
from common.wire.errors import grpc_status
from tandem.drawing import draw_detections
from tandem.results import FrameResult
from tandem.sources import SourceFrame
from tandem.sources.containers import reason


class Sink(Protocol):
    """Takes each frame with its result, in order."""

    @abstractmethod
    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Add one frame; blocks.

        A frame that was not served is shown without boxes; one that is no picture is left out.

        Raises:
            TandemError: it cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Complete the file, however the run ended; without a frame there is none.

        Raises:
            TandemError: it cannot be stored; what had its name before stays.
        """


def annotated(frame: SourceFrame, result: FrameResult) -> np.ndarray | None:
    """The very picture that was sent, with its detections.

    Access units are decoded here, each once and in order: ask for every frame.

    Returns:
        HxWx3, uint8, BGR; None if it is no picture, for which the server has refused it.

    Raises:
        InvalidInputError: the frame is no picture, though it was served.
    """
    if isinstance(frame.content, TandemError):
        return None
    try:
        pixels = frame.pixels()
    except InvalidInputError:
        if result.error is None:
            raise
        return None
    return None if pixels is None else draw_detections(pixels, result.detections)


def settle(replacement: Replacement, is_whole: bool) -> None:
    """Give a file its name, or remove it."""
    if is_whole:
        replacement.complete()
    else:
        replacement.discard()


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Raise what goes wrong with a file as a sentence that names it.

    Raises:
        UnavailableError: in the place of an OSError or an error of FFmpeg.
    """
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise UnavailableError(f"{path} cannot be written: {reason(error)}") from error


class JsonLinesSink:
    """A line of JSON a frame; see `frame_to_json`.

    If the disk fills up, the lines that were whole are kept.
    """

    def __init__(self, path: Path) -> None:
        """Create the file.

        Raises:
            UnavailableError: it cannot be written.
        """
        self._wanted = path
        with told(path):
            self._replacement = Replacement(path)
            self._file = self._replacement.path.open("ab", buffering=0)
        self._bytes = 0

    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Write one line; see `Sink`."""
        line = json.dumps(frame_to_json(frame, result)).encode() + b"\n"
        with told(self._wanted):
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._bytes += len(line)

    def close(self) -> None:
        """Complete the file; see `Sink`."""
        with told(self._wanted):
            if self._bytes and self._file.seekable():
                self._file.truncate(self._bytes)
            self._file.close()
            settle(self._replacement, self._bytes > 0)


def frame_to_json(frame: SourceFrame, result: FrameResult) -> dict[str, Any]:
    """A frame's result with its name, and when it is shown (seconds since the first, or null)."""
    return {"name": frame.name, "time_seconds": frame.seconds, **result_to_json(result)}


def result_to_json(result: FrameResult) -> dict[str, Any]:
    """The machine-readable form of `tandem detect --json`; boxes are x_min, y_min, x_max, y_max."""
    error = result.error
    return {
        "frame_id": result.frame_id,
        "placement": result.node_pair.name if result.node_pair else None,
        "detections": [
            {
                "category_id": detection.category_id,
                "category_name": detection.category_name,
                "score": detection.score,
                "box": list(vars(detection.box).values()),
                **({} if detection.track_id is None else {"track_id": detection.track_id}),
            }
            for detection in result.detections
        ],
        "error": {"code": grpc_status(error).name, "message": str(error)} if error else None,
        "dropped": result.dropped,
        "timing": {
            **asdict(result.timing),
            "round_trip_seconds": result.round_trip_seconds,
        },
    }
