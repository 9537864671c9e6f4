"""Videos, which end, and live sources, which must not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from tandem.sources.base import (
    SourceFrame,
    SourceInfo,
    SourceKind,
    SourceOptions,
    VideoForm,
)
from tandem.sources.delivery import Damage, sent_as_jpeg, source_frame
from tandem.sources.ffmpeg import FFmpegReader
from tandem.sources.passing import NotPassableError
from tandem.sources.readers import (
    SILENCE_SECONDS,
    LostError,
    ReadFrame,
)

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
        *,
        reopen: Callable[[], FFmpegReader] | None = None,
    ) -> None:
        """Read from `reader`; `reopen` reads the same from its beginning, if that is possible."""
        self._reader = reader
        self._options = options
        self._reopen = reopen
        self._form = VideoForm.JPEG
        self._is_closed = False
        self.info = SourceInfo(
            name, SourceKind.VIDEO, reader.frame_count, reader.frames_per_second, paths
        )

    @property
    def damaged_frames(self) -> int:
        """See `Source`."""
        return self._reader.damaged

    def deliver(self, form: VideoForm) -> None:
        """See `Source`."""
        self._form = form
        self._reader.passes = form is VideoForm.ACCESS_UNITS

    def __iter__(self) -> Iterator[SourceFrame]:
        name, index, damage = self.info.name, 0, Damage(self.info.name, self._options.tell)
        while (picture := self._read(index)) is not None:
            damage.note(self.damaged_frames)
            if index == 0 and self._reader.not_passed is not None:
                self._options.tell(sent_as_jpeg(name, self._reader.not_passed))
            if index == 1 and not self._reader.timed:
                rate = self.info.frames_per_second or 25.0
                self._options.tell(
                    f"{name} does not say when its frames are shown: {rate:g} a second are assumed"
                )
            yield source_frame(
                f"{name} frame {index}", picture, picture.seconds, self._form, self._options
            )
            index += 1
        damage.note(self.damaged_frames)
        if index == 0:
            raise InvalidInputError(f"{name} holds no frame that can be decoded")

    def close(self) -> None:
        """Close the file or the connection."""
        self._is_closed = True
        self._reader.close()

    def _read(self, passed: int) -> ReadFrame | None:
        try:
            return self._reader.read()
        except LostError as error:
            raise UnavailableError(f"{self.info.name} ended too early: {error}") from error
        except NotPassableError as error:
            return self._read_decoded(passed, str(error))

    def _read_decoded(self, passed: int, why: str) -> ReadFrame | None:
        """The first frame that cannot be passed through, of so many that were, and all after it."""
        name = self.info.name
        if self._reopen is None:
            raise InvalidInputError(
                f"{name} cannot be sent on as it is, but as JPEG (--transcode jpeg): from frame "
                f"{passed} on, {why}"
            )
        self._options.tell(sent_as_jpeg(name, f"from frame {passed} on, {why}"))
        self._reader.close()
        reader = self._reopen()
        reader.go_on_from(self._reader)
        self._reader = reader
        if self._is_closed:
            reader.close()
        return self._read(passed)


class LiveReader(Protocol):
    """What a live source reads from, until it is lost; see `Reader`.

    Attributes:
        passes: see `FFmpegReader`, as for the others; without effect on what is not encoded.
    """

    frames_per_second: float | None
    damaged: int
    timed: bool
    passes: bool
    not_passed: str | None

    def read(self) -> ReadFrame | None:
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
        self._form = VideoForm.JPEG
        self._not_passed: str | None = None
        self._reader = reader or connect(SILENCE_SECONDS)
        self.info = SourceInfo(name, SourceKind.LIVE, None, self._reader.frames_per_second)

    @property
    def damaged_frames(self) -> int:
        """See `Source`."""
        return self._damaged_before + self._reader.damaged

    def __iter__(self) -> Iterator[SourceFrame]:
        name, damage = self.info.name, Damage(self.info.name, self._options.tell)
        for index, (picture, seconds) in enumerate(self._pictures()):
            damage.note(self.damaged_frames)
            self._tell_not_passed()
            yield source_frame(f"{name} frame {index}", picture, seconds, self._form, self._options)

    def deliver(self, form: VideoForm) -> None:
        """See `Source`."""
        self._form = form
        self._reader.passes = form is VideoForm.ACCESS_UNITS

    def close(self) -> None:
        """Release the camera; ends a wait for it at once."""
        self._stopped.set()
        self._reader.close()

    def _tell_not_passed(self) -> None:
        """Why frames come as JPEG, once, whatever connection it is."""
        if self._reader.not_passed not in (None, self._not_passed):
            self._not_passed = self._reader.not_passed
            self._options.tell(sent_as_jpeg(self.info.name, str(self._not_passed)))

    def _pictures(self) -> Iterator[tuple[ReadFrame, float]]:
        """Frames of one connection after the other, with their time since the first."""
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

    def _read(self) -> tuple[ReadFrame | None, str]:
        try:
            return self._reader.read(), "it hung up"
        except LostError as error:
            return None, str(error)
        except NotPassableError as error:
            # From now on: what is there once may come again.
            self._form = VideoForm.JPEG
            self._options.tell(sent_as_jpeg(self.info.name, f"from now on, {error}"))
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
                reader.passes = self._form is VideoForm.ACCESS_UNITS
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

    def seconds(self, timed: ReadFrame | None) -> float:
        """Of a picture: by its own time stamp, or, without one, by when it came."""
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        if self._base is None:
            self._base = now - self._started
        if timed is None or timed.seconds is None:
            return now - self._started
        return self._base + timed.seconds


def _given_up(reconnect_seconds: float) -> str:
    if reconnect_seconds == 0:
        return "and is not opened again (--reconnect-seconds 0)"
    return f"and did not come back within {reconnect_seconds:g} s"
