"""Results as JSON lines."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from common.files import Replacement
from tandem.results import FrameResult, result_to_json
from tandem.sinks.base import settle, told
from tandem.sources import SourceFrame


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
