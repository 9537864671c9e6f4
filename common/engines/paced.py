"""Simulated devices of known speed, which several processes may share.

Everything that runs on one is labelled simulated.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import os
import struct
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Dict, Mapping, Optional

import numpy as np

from common.domain.errors import ConfigurationError
from common.engines.base import Engine

_BUSY_UNTIL = struct.Struct("<d")
# The clock starts anew at a reboot; a time that was written before must not block the device.
_LONGEST_QUEUE_SECONDS = 600.0
# Of `prctl`, in linux/prctl.h.
_PR_SET_TIMERSLACK = 29


class SimulatedDevice:
    """Hands out the time of a device to executions, one after another.

    Like a GPU, the device takes executions in the order in which they are queued, whichever process
    queues them, and it finishes one even if its process has died or was stopped. The processes
    share only a file in the folder for temporary files, which tells until when the device is busy;
    it is locked only while it is read and written. Processes of one machine share a device if they
    give it the same name and see the same folder.
    """

    def __init__(self, name: str) -> None:
        """Join the device of this name.

        Raises:
            ConfigurationError: the device's file cannot be opened.
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
        """Queue an execution. The caller has to wait until it begins.

        Returns:
            The time at which it begins, by `time.monotonic`.
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
        """Leave the device; its file stays for the others."""
        os.close(self._file)

    def _busy_until(self) -> float:
        content = os.pread(self._file, _BUSY_UNTIL.size, 0)
        if len(content) < _BUSY_UNTIL.size:
            return -math.inf
        return float(_BUSY_UNTIL.unpack(content)[0])


class PacedEngine:
    """Holds each result of a real engine back until a given time has passed since its start.

    On a shared device an execution starts when those that were queued before are over.
    """

    def __init__(
        self,
        engine: Engine,
        duration_seconds: float,
        device: Optional[SimulatedDevice] = None,
        batch_seconds: Optional[Mapping[int, float]] = None,
    ) -> None:
        """Pace `engine` to `duration_seconds` an execution, or its own time if that is longer.

        Args:
            engine: the engine that computes.
            duration_seconds: how long the execution of one frame takes.
            device: the device that is busy for that time; None for one of the engine's own. It is
                closed with the engine.
            batch_seconds: how long one execution of so many frames at once takes; see
                `paced_seconds`.
        """
        self._engine = engine
        self._duration_seconds = duration_seconds
        self._device = device
        self._batch_seconds = dict(batch_seconds or {})

    @property
    def description(self) -> str:
        """The real engine's description, labelled simulated."""
        pace = f"simulated pace {self._duration_seconds * 1000:g} ms"
        for frames, seconds in sorted(self._batch_seconds.items()):
            pace += f", {seconds * 1000:g} ms for {frames} frames"
        shared = f" on shared device {self._device.name}" if self._device else ""
        return f"{self._engine.description}, {pace}{shared}"

    def run(self, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        frames = next(iter(inputs.values())).shape[0]
        seconds = paced_seconds(frames, self._duration_seconds, self._batch_seconds)
        start = time.monotonic()
        if self._device is not None:
            start = self._device.reserve(seconds)
            _sleep_until(start)
        outputs = self._engine.run(inputs)
        _sleep_until(start + seconds)
        return outputs

    def close(self) -> None:
        """Release the real engine, and leave the device."""
        self._engine.close()
        if self._device is not None:
            self._device.close()


def paced_seconds(frames: int, seconds_of_one: float, batch_seconds: Mapping[int, float]) -> float:
    """How long an imitated device takes for so many frames at once.

    Args:
        frames: in one execution; at least 1.
        seconds_of_one: for a single frame.
        batch_seconds: for some larger numbers of frames. Between two of the numbers known the time
            is proportional; beyond the largest, the device gains nothing more.
    """
    known = sorted({**batch_seconds, 1: seconds_of_one}.items())
    most, most_seconds = known[-1]
    if frames > most:
        return most_seconds * frames / most
    return float(np.interp(frames, [each for each, _ in known], [each for _, each in known]))


_this_thread = threading.local()


def _sleep_until(moment: float) -> None:
    if not hasattr(_this_thread, "wakes_in_time"):
        _this_thread.wakes_in_time = True
        _wake_in_time()
    time.sleep(max(0.0, moment - time.monotonic()))


def _wake_in_time() -> None:
    """Have Linux wake this thread when it is due, and not within 50 us of that, its default."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1))
