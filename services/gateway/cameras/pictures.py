"""A camera's frames, one after another without an end, as they are sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from common.domain.errors import TandemError, UnavailableError
from common.domain.video import AccessUnit
from services.gateway.cameras.configuration import CameraOptions
from tandem.sources.base import Source, SourceFrame, SourceKind, VideoForm
from tandem.sources.opening import open_source

_PICTURES_PER_SECOND = 1.0
# A file that holds nothing but what cannot be read would be opened over and over.
_LEAST_ROUND_SECONDS = 0.2
# Of sentences that are told once each.
_MOST_TOLD = 100


@dataclass(frozen=True)
class ReadFrame(SourceFrame):
    """A frame of a camera.

    Attributes:
        read_at_seconds: when it was read, in seconds since 1970.
    """

    read_at_seconds: float = 0.0


class CameraPictures:
    """Opens what a camera names, and reads it in the thread that iterates.

    H.264 and H.265 come as the camera encoded them, if the services decode it; else frames are
    pictures. What ends (a file, a folder) begins again; a camera that is lost is opened again by
    its source for a while.
    """

    def __init__(self, options: CameraOptions, tell: Callable[[str], None]) -> None:
        """Prepare; nothing is opened yet.

        Args:
            options: of the camera.
            tell: called from the reading thread with a sentence when something goes wrong and
                reading goes on.
        """
        self._options = options
        self._tell = tell
        self._stopped = threading.Event()
        self._source: Source | None = None
        self._told: set[str] = set()
        # When the next one may be sent, by `time.monotonic`.
        self._due = 0.0

    def __iter__(self) -> Iterator[ReadFrame]:
        """Read; blocks.

        Raises:
            TandemError: it cannot be opened, or has broken.
        """
        while not self._stopped.is_set():
            began = time.monotonic()
            source = open_source(self._options.url, tell=self._tell_of_source)
            self._source = source
            source.deliver(VideoForm.ACCESS_UNITS)
            try:
                yield from self._limited(self._paced(source))
            finally:
                source.close()
            if source.info.kind is SourceKind.LIVE:
                raise UnavailableError(f"{source.info.name} ended")
            self._stopped.wait(began + _LEAST_ROUND_SECONDS - time.monotonic())

    def close(self) -> None:
        """End the reading soon; from any thread."""
        self._stopped.set()
        if self._source is not None:
            self._source.close()

    def _paced(self, source: Source) -> Iterator[SourceFrame]:
        """Frames of what is no camera, none before its time."""
        if source.info.kind is SourceKind.LIVE:
            yield from source
            return
        rate = self._options.frames_per_second or _PICTURES_PER_SECOND
        began = time.monotonic()
        for index, frame in enumerate(source):
            due = began + (index / rate if frame.seconds is None else frame.seconds)
            if self._stopped.wait(due - time.monotonic()):
                return
            yield frame
            if source.info.kind is SourceKind.PICTURE:
                self._stopped.wait(1 / rate)

    def _limited(self, frames: Iterator[SourceFrame]) -> Iterator[ReadFrame]:
        """At most as many a second as the camera is to send; without what cannot be read.

        Access units come all the same, since later ones need them, to be decoded only.
        """
        rate = self._options.frames_per_second
        for frame in frames:
            content = frame.content
            if isinstance(content, TandemError):
                self._tell_of_source(f"{frame.name}: {content}")
                continue
            now = time.monotonic()
            # A picture that comes a little early, as all clocks have it, is not left out for it.
            if rate and now < self._due - 0.25 / rate:
                if not isinstance(content, AccessUnit):
                    continue
                content = replace(content, decode_only=True)
            else:
                self._take_turn(now)
            yield ReadFrame(
                frame.name,
                content,
                video=frame.video,
                decode=frame.decode,
                read_at_seconds=time.time(),
            )

    def _take_turn(self, now: float) -> None:
        """A frame is sent now: find out when the next one may be."""
        rate = self._options.frames_per_second
        if rate:
            # One that came late makes up for it, but not for a pause.
            is_late = now - self._due < 1 / rate
            self._due = (self._due if is_late else now) + 1 / rate

    def _tell_of_source(self, sentence: str) -> None:
        """Tell a sentence; what begins again and again says the same each time."""
        source = self._source
        if source is None or source.info.kind is not SourceKind.LIVE:
            if sentence in self._told:
                return
            if len(self._told) < _MOST_TOLD:
                self._told.add(sentence)
        self._tell(sentence)
