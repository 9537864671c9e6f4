"""Videos, which end, and live sources, which must not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from tandem.pictures import encode_jpeg
from tandem.sources.base import SourceFrame, SourceInfo, SourceKind, SourceOptions, Tell
from tandem.sources.ffmpeg import FFmpegReader
from tandem.sources.readers import SILENCE_SECONDS, LostError, Picture

# A camera that was only switched off and on is back soon; a network is not to be flooded.
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 10.0


class VideoSource:
    """A video: a file, a pipe, or a file from the network."""

    def __init__(
        self,
        reader: FFmpegReader,
        name: str,
        options: SourceOptions,
        paths: tuple[Path, ...] = (),
    ) -> None:
        self._reader = reader
        self._options = options
        self.info = SourceInfo(
            name, SourceKind.VIDEO, reader.frame_count, reader.frames_per_second, paths
        )

    @property
    def damaged_frames(self) -> int:
        """See `Source`."""
        return self._reader.damaged

    def __iter__(self) -> Iterator[SourceFrame]:
        name, index, damage = self.info.name, 0, _Damage(self.info.name, self._options.tell)
        while (picture := self._read()) is not None:
            damage.note(self.damaged_frames)
            if index == 1 and not self._reader.timed:
                rate = self.info.frames_per_second or 25.0
                self._options.tell(
                    f"{name} does not say when its frames are shown: {rate:g} a second are assumed"
                )
            yield _frame(name, index, picture, picture.seconds, self._options.jpeg_quality)
            index += 1
        damage.note(self.damaged_frames)
        if index == 0:
            raise InvalidInputError(f"{name} holds no frame that can be decoded")

    def close(self) -> None:
        """Close the file or the connection."""
        self._reader.close()

    def _read(self) -> Picture | None:
        try:
            return self._reader.read()
        except LostError as error:
            raise UnavailableError(f"{self.info.name} ended too early: {error}") from error


class LiveReader(Protocol):
    """What a live source reads from, until it is lost; see `Reader`."""

    frames_per_second: float | None
    damaged: int
    timed: bool

    def read(self) -> Picture | None:
        """See `Reader`."""
        ...

    def close(self) -> None:
        """See `Reader`."""
        ...


Connect = Callable[[float], LiveReader]
"""Opens a reader within so many seconds; raises a TandemError if it cannot."""


class LiveSource:
    """A camera: it is opened again when it is lost, and only gives up after a while.

    Its time goes on while it is away, so that what is written is as long as what happened.
    """

    def __init__(
        self,
        connect: Connect,
        name: str,
        options: SourceOptions,
        reader: LiveReader | None = None,
    ) -> None:
        """Connect.

        Args:
            connect: opens the camera.
            name: for people.
            options: how to read, and how long to try after it is lost.
            reader: the first connection, if it is there already.

        Raises:
            TandemError: the camera is not there to begin with.
        """
        self._connect = connect
        self._options = options
        self._stopped = threading.Event()
        self._damaged_before = 0
        self._reader = reader or connect(SILENCE_SECONDS)
        self.info = SourceInfo(name, SourceKind.LIVE, None, self._reader.frames_per_second)

    @property
    def damaged_frames(self) -> int:
        """See `Source`."""
        return self._damaged_before + self._reader.damaged

    def __iter__(self) -> Iterator[SourceFrame]:
        name, damage = self.info.name, _Damage(self.info.name, self._options.tell)
        for index, (picture, seconds) in enumerate(self._pictures()):
            damage.note(self.damaged_frames)
            yield _frame(name, index, picture, seconds, self._options.jpeg_quality)

    def close(self) -> None:
        """Release the camera; ends a wait for it at once."""
        self._stopped.set()
        self._reader.close()

    def _pictures(self) -> Iterator[tuple[Picture, float]]:
        """Pictures of one connection after the other, with their time since the first."""
        clock, loss = _Clock(), None
        while not self._stopped.is_set():
            picture, why = self._read()
            if picture is not None:
                if loss is not None:
                    self._options.tell(f"{self.info.name}: back after {loss.age_seconds():.1f} s")
                    clock.resume()
                    loss = None
                yield picture, clock.seconds(picture if self._reader.timed else None)
            elif not self._stopped.is_set():
                loss = loss or _Loss(why)
                self._reconnect(loss)

    def _read(self) -> tuple[Picture | None, str]:
        try:
            return self._reader.read(), "it hung up"
        except LostError as error:
            return None, str(error)

    def _reconnect(self, loss: _Loss) -> None:
        """Open it anew, trying with growing waits.

        Raises:
            UnavailableError: it did not come back in time.
        """
        self._reader.close()
        lost = f"{self.info.name} is lost: {loss.why}"
        while not self._stopped.is_set():
            left = self._options.reconnect_seconds - loss.age_seconds()
            if left <= 0:
                raise UnavailableError(f"{lost}, {_given_up(self._options.reconnect_seconds)}")
            wait = min(loss.next_wait(), left)
            self._options.tell(f"{lost}; trying again in {wait:.1f} s")
            if self._stopped.wait(wait):
                return
            with contextlib.suppress(TandemError):
                # Even the last try gets a moment.
                reader = self._connect(min(SILENCE_SECONDS, max(1.0, left - wait)))
                self._damaged_before += self._reader.damaged
                self._reader = reader
                if self._stopped.is_set():
                    reader.close()
                return


class _Loss:
    """Since when a camera is gone, and how often it was tried."""

    def __init__(self, why: str) -> None:
        self.why = why
        self._since = time.monotonic()
        self._wait = _FIRST_WAIT_SECONDS

    def age_seconds(self) -> float:
        return time.monotonic() - self._since

    def next_wait(self) -> float:
        wait, self._wait = self._wait, min(2 * self._wait, _LONGEST_WAIT_SECONDS)
        return wait


class _Clock:
    """Time since the first picture, over all connections: each counts its own from 0."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._base: float | None = None

    def resume(self) -> None:
        """Another connection begins."""
        self._base = None

    def seconds(self, timed: Picture | None) -> float:
        """Of a picture: by its own time stamp, or, without one, by when it came."""
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        if self._base is None:
            self._base = now - self._started
        if timed is None or timed.seconds is None:
            return now - self._started
        return self._base + timed.seconds


class _Damage:
    """Tells of damaged frames: of the first, then whenever there are twice as many."""

    def __init__(self, name: str, tell: Tell) -> None:
        self._name, self._tell, self._next = name, tell, 1

    def note(self, damaged: int) -> None:
        if damaged >= self._next:
            self._next = 2 * damaged
            frames = "1 damaged frame" if damaged == 1 else f"{damaged} damaged frames"
            self._tell(f"{self._name}: {frames} left out so far")


def _given_up(reconnect_seconds: float) -> str:
    if reconnect_seconds == 0:
        return "and is not opened again (--reconnect-seconds 0)"
    return f"and did not come back within {reconnect_seconds:g} s"


def _frame(
    name: str, index: int, picture: Picture, seconds: float | None, quality: int
) -> SourceFrame:
    image = encode_jpeg(picture.pixels, quality)
    return SourceFrame(f"{name} frame {index}", image, seconds, picture.duration_seconds)
