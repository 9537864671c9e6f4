"""What every source has in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

import numpy as np

from common.domain.errors import InvalidInputError, TandemError
from common.domain.frames import EncodedImage, Image, RawImage
from common.domain.video import AccessUnit, VideoFormat
from tandem.pictures import JPEG_QUALITY, decode_picture, pixels_of
from tandem.sources.decoding import DecodeUnit

# One JPEG after the other is a video, though it begins as a picture does.
JPEG_VIDEO_SUFFIXES = (".mjpeg", ".mjpg")
# A camera that is switched off and on takes about half of it.
DEFAULT_RECONNECT_SECONDS = 60.0

Tell = Callable[[str], None]
"""Called, from any thread, with a sentence for the user when something goes wrong and the source
goes on."""


def untold(_sentence: str) -> None:
    """Ignore the sentence."""


class VideoForm(Enum):
    """How the frames of what moves come; pictures that are files already come as they are."""

    # As the camera encoded them, if it is H.264 or H.265 that the services decode; else as JPEG.
    ACCESS_UNITS = "access units"
    JPEG = "jpeg"
    # Uncompressed, for who computes in this process.
    PIXELS = "pixels"


@dataclass(frozen=True)
class SourceOptions:
    """How to read what moves.

    Attributes:
        jpeg_quality: 1 to 100, of frames that do not come as pictures already.
        live: True: a URL is a camera, even if it looks like a file; else what it looks like counts.
        reconnect_seconds: for how long a camera that is lost is opened anew; 0: not at all.
        tell: called with a sentence whenever something goes wrong and the source goes on.
    """

    jpeg_quality: int = JPEG_QUALITY
    live: bool | None = None
    reconnect_seconds: float = DEFAULT_RECONNECT_SECONDS
    tell: Tell = untold


class SourceKind(Enum):
    """What a source is, for choosing what to write."""

    PICTURE = "picture"
    FOLDER = "folder"
    VIDEO = "video"
    LIVE = "live"


@dataclass(frozen=True)
class SourceInfo:
    """What is known before the first frame.

    Attributes:
        name: for people: a file's name, a camera's, a URL without its password.
        kind: live sources go on while nobody reads.
        frame_count: None when it is unknown; a video's is what its header says.
        frames_per_second: None for pictures, or when it is unknown; frames of a video say
            themselves when they are due.
        paths: files that are read; none of them may be written to.
    """

    name: str
    kind: SourceKind
    frame_count: int | None
    frames_per_second: float | None
    paths: tuple[Path, ...] = ()


@dataclass(frozen=True)
class SourceFrame:
    """One frame to be sent.

    Attributes:
        name: the file's name, or the source's and the frame's number.
        content: JPEG or PNG, pixels, or an access unit; or why this one frame could not be read.
        seconds: when it is shown, since the first frame; None for pictures.
        duration_seconds: how long it is shown; None if only the next frame tells.
        video: what the access unit is of; None: it is none.
        decode: makes pixels of the source's access units.
    """

    name: str
    content: Image | AccessUnit | TandemError
    seconds: float | None = None
    duration_seconds: float | None = None
    video: VideoFormat | None = None
    decode: DecodeUnit | None = field(default=None, repr=False, compare=False)

    @property
    def image(self) -> EncodedImage:
        """The picture, of a source that delivers JPEG.

        Raises:
            TandemError: it could not be read.
        """
        if isinstance(self.content, TandemError):
            raise self.content
        if not isinstance(self.content, EncodedImage):
            raise TypeError(f"{self.name} is no picture file")
        return self.content

    def pixels(self) -> np.ndarray | None:
        """The very picture that is sent; of access units each once, in the order of the source.

        Returns:
            HxWx3, uint8, BGR; None of an access unit that cannot be decoded.

        Raises:
            TandemError: it could not be read, or is no picture.
        """
        if isinstance(self.content, TandemError):
            raise self.content
        if isinstance(self.content, EncodedImage):
            return decode_picture(self.content)
        if isinstance(self.content, RawImage):
            return pixels_of(self.content)
        if self.decode is None:
            raise InvalidInputError(f"{self.name} cannot be decoded here")
        return self.decode(self.content)


class Source(Protocol):
    """Frames, read one at a time and never ahead; iterate it once, then close it."""

    @property
    def info(self) -> SourceInfo:
        """What is known before the first frame."""
        ...

    @property
    def damaged_frames(self) -> int:
        """Frames left out so far because they could not be decoded."""
        ...

    def deliver(self, form: VideoForm) -> None:
        """Choose how frames of what moves come, before the first; JPEG otherwise."""
        ...

    def __iter__(self) -> Iterator[SourceFrame]:
        """Read frame by frame; blocks.

        Raises:
            TandemError: the source broke.
        """
        ...

    def close(self) -> None:
        """Release the file, camera or connection; from any thread."""
        ...


def played(frames: Iterable[SourceFrame]) -> Iterator[SourceFrame]:
    """The same frames, none before its time; blocks. A file then behaves as a camera does."""
    started = time.monotonic()
    for frame in frames:
        time.sleep(max(0.0, started + (frame.seconds or 0.0) - time.monotonic()))
        yield frame
