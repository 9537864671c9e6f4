"""One imitated device that several processes share, as a backbone and a transformer share a GPU."""

from __future__ import annotations

import fcntl
import math
import os
import struct
import tempfile
import time
from pathlib import Path

from common.domain.errors import ConfigurationError

_BUSY_UNTIL = struct.Struct("<d")
# What was written before a reboot, whose clock starts anew, must not block the device.
_LONGEST_QUEUE_SECONDS = 600.0


class SharedDevice:
    """Hands out the time of a device to the executions asked for, one after another.

    As a GPU does with what is queued on it, the device takes executions in the order asked,
    whichever process asks, and finishes one even if the process that asked has died or was
    stopped. All that is shared is a file in the folder for temporary files, which tells until when
    the device is busy; it is locked only to be read and written. Processes of one machine share a
    device if they name it alike and see the same folder.
    """

    def __init__(self, name: str) -> None:
        """Join the device of this name.

        Raises:
            ConfigurationError: its file cannot be opened.
        """
        self.name = name
        path = Path(tempfile.gettempdir()) / f"tandem-device-{name}"
        try:
            self._file = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"cannot share device {name!r} by {path}: {error.strerror}"
            ) from error

    def reserve(self, duration_seconds: float) -> float:
        """Queue an execution; it is for the caller to wait until it begins.

        Returns:
            When it begins, by `time.monotonic`.
        """
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            now = time.monotonic()
            busy_until = self._busy_until()
            is_plausible = now < busy_until < now + _LONGEST_QUEUE_SECONDS
            begin = busy_until if is_plausible else now
            os.pwrite(self._file, _BUSY_UNTIL.pack(begin + duration_seconds), 0)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return begin

    def close(self) -> None:
        """Leave the device; its file stays, for the others."""
        os.close(self._file)

    def _busy_until(self) -> float:
        content = os.pread(self._file, _BUSY_UNTIL.size, 0)
        if len(content) < _BUSY_UNTIL.size:
            return -math.inf
        return float(_BUSY_UNTIL.unpack(content)[0])
