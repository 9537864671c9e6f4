"""Where frames come from: a picture, a folder, a video file, a camera, a network stream."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np

from client.pictures import JPEG_QUALITY, decode_picture, encode_jpeg, encode_png
from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from common.domain.frames import EncodedImage

# A dead camera is noticed after this long; (connect, read).
NETWORK_TIMEOUT_SECONDS = (10.0, 10.0)

_JPEG_SIGNATURE = b"\xff\xd8\xff"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Picture files that the wire does not carry; they are sent as PNG, which loses nothing.
_CONVERTED_SUFFIXES = {".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"} | _CONVERTED_SUFFIXES


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
        name: for people: a file's name, a camera's number, a URL without its password.
        kind: live sources go on while nobody reads.
        frame_count: None when it is unknown; a video's is what its header says.
        frames_per_second: None for pictures, or when it is unknown.
    """

    name: str
    kind: SourceKind
    frame_count: int | None
    frames_per_second: float | None


@dataclass(frozen=True)
class SourceFrame:
    """One frame to be sent.

    Attributes:
        name: the file's name, or the source's and the frame's number.
        image: JPEG or PNG.
    """

    name: str
    image: EncodedImage


class Source(Protocol):
    """Frames, read one at a time and never ahead; iterate it once, then close it."""

    @property
    def info(self) -> SourceInfo:
        """What is known before the first frame."""
        ...

    def __iter__(self) -> Iterator[SourceFrame]:
        """Read frame by frame; blocks.

        Raises:
            TandemError: the source broke.
        """
        ...

    def close(self) -> None:
        """Release the file, camera or connection."""
        ...


def open_source(text: str, jpeg_quality: int = JPEG_QUALITY) -> Source:
    """Open what a user named; blocks while a network stream connects.

    Args:
        text: path of a picture, folder or video; a camera's number; or a URL (rtsp, http, ...).
        jpeg_quality: 1 to 100, of frames that do not come as pictures already.

    Raises:
        InvalidInputError: there is no such thing, or it holds neither picture nor video.
        UnavailableError: the camera or the stream does not answer.
    """
    if "://" in text:
        return VideoSource(text, jpeg_quality, network=True)
    path = Path(text)
    if text.isdecimal() and not path.exists():
        return CameraSource(int(text), jpeg_quality)
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise InvalidInputError(f"there is no file, folder or camera named {text}")
    if not os.access(path, os.R_OK):
        raise InvalidInputError(f"{text} cannot be read: permission denied")
    if path.stat().st_size == 0:
        raise InvalidInputError(f"{text} is empty")
    return PictureSource(path) if _is_picture(path) else VideoSource(text, jpeg_quality)


class PictureSource:
    """One picture file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.info = SourceInfo(path.name, SourceKind.PICTURE, 1, None)

    def __iter__(self) -> Iterator[SourceFrame]:
        yield SourceFrame(self._path.name, _load_picture(self._path))

    def close(self) -> None:
        """Nothing is held."""


class FolderSource:
    """The picture files of one folder, by name; folders in it are left out."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(
            path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES
        )
        if not self._paths:
            raise InvalidInputError(f"the folder {folder} holds no pictures (JPEG or PNG)")
        name = folder.resolve().name
        self.info = SourceInfo(name, SourceKind.FOLDER, len(self._paths), None)

    def __iter__(self) -> Iterator[SourceFrame]:
        for path in self._paths:
            yield SourceFrame(path.name, _load_picture(path))

    def close(self) -> None:
        """Nothing is held."""


class VideoSource:
    """A video file, or a stream from the network, decoded by FFmpeg.

    Frames are turned upright where the file says that the camera was held on its side.
    """

    def __init__(self, url: str, jpeg_quality: int, network: bool = False) -> None:
        self._url = url
        self._name = _without_password(url) if network else Path(url).name
        self._quality = jpeg_quality
        self._container = _open_container(url, self._name, network)
        if not self._container.streams.video:
            self._container.close()
            raise InvalidInputError(f"{self._name} is neither a picture nor a video")
        stream = self._container.streams.video[0]
        # Slices and frames in parallel: decoding must not be what limits the stream.
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate) if stream.average_rate else None
        kind = SourceKind.LIVE if network and stream.frames == 0 else SourceKind.VIDEO
        self.info = SourceInfo(self._name, kind, stream.frames or None, rate)

    def __iter__(self) -> Iterator[SourceFrame]:
        try:
            for index, frame in enumerate(self._container.decode(video=0)):
                pixels = _upright(frame.to_ndarray(format="bgr24"), frame.rotation)
                yield SourceFrame(f"{self._name} frame {index}", encode_jpeg(pixels, self._quality))
        except (av.FFmpegError, OSError) as error:
            raise InvalidInputError(f"{self._name} cannot be decoded: {_reason(error)}") from error

    def close(self) -> None:
        """Close the file or the connection."""
        self._container.close()


class CameraSource:
    """A camera of this machine, by its number."""

    def __init__(self, index: int, jpeg_quality: int) -> None:
        self._quality = jpeg_quality
        self._name = f"camera {index}"
        self._capture = _open_camera(index)
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.info = SourceInfo(self._name, SourceKind.LIVE, None, rate if rate > 0 else None)

    def __iter__(self) -> Iterator[SourceFrame]:
        index = 0
        while True:
            grabbed, pixels = self._capture.read()
            if not grabbed:
                raise UnavailableError(f"{self._name} stopped after {index} frames")
            yield SourceFrame(f"{self._name} frame {index}", encode_jpeg(pixels, self._quality))
            index += 1

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()


def played(frames: Iterable[SourceFrame], frames_per_second: float) -> Iterator[SourceFrame]:
    """The same frames, none before its time; blocks. A file then behaves as a camera does."""
    started = time.monotonic()
    for index, frame in enumerate(frames):
        time.sleep(max(0.0, started + index / frames_per_second - time.monotonic()))
        yield frame


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(len(_PNG_SIGNATURE))
    return head.startswith((_JPEG_SIGNATURE, _PNG_SIGNATURE)) or (
        path.suffix.lower() in PICTURE_SUFFIXES
    )


def _load_picture(path: Path) -> EncodedImage:
    """A JPEG or PNG file as it is, whatever is in it: the server's answer says what is wrong."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix.lower() not in _CONVERTED_SUFFIXES:
        return EncodedImage(data)
    try:
        return encode_png(decode_picture(EncodedImage(data)))
    except TandemError as error:
        raise InvalidInputError(f"{path} is not a picture that OpenCV can read") from error


def _open_container(url: str, name: str, network: bool) -> av.container.InputContainer:
    # Over TCP a lossy link delays an RTSP camera's pictures; over UDP it smears them.
    options = {"rtsp_transport": "tcp"} if url.startswith("rtsp") else {}
    try:
        return av.open(url, options=options, timeout=NETWORK_TIMEOUT_SECONDS if network else None)
    except (av.FFmpegError, OSError, ValueError) as error:
        if network:
            raise UnavailableError(f"{name} does not answer: {_reason(error)}") from error
        raise InvalidInputError(f"{name} is neither a picture nor a video") from error


def _open_camera(index: int) -> cv2.VideoCapture:
    # OpenCV writes its own complaint to stderr, beside our sentence.
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        capture = cv2.VideoCapture(index)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if not capture.isOpened():
        raise UnavailableError(f"there is no camera {index} here, or another program holds it")
    return capture


def _upright(pixels: np.ndarray, rotation_degrees: int) -> np.ndarray:
    """Apply a video's display rotation, counted anticlockwise; only quarter turns occur."""
    quarter_turns = round(rotation_degrees / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host = rest.split("/", 1)[0]
    return f"{scheme}://{rest[host.rfind('@') + 1 :]}" if "@" in host else url


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
