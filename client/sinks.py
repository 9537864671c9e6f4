"""Where results go: pictures and videos with boxes drawn, JSON lines."""

from __future__ import annotations

import json
from abc import abstractmethod
from fractions import Fraction
from pathlib import Path
from typing import Protocol, TextIO

import av
import cv2
import numpy as np

from client.drawing import draw_detections
from client.pictures import decode_picture
from client.results import FrameResult, result_to_json
from client.sources import SourceFrame, SourceInfo, SourceKind
from common.domain.errors import InvalidInputError, UnavailableError

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"}
VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov"}
JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}
# Of a video made from pictures, or from a source that does not tell its own.
DEFAULT_FRAMES_PER_SECOND = 25.0
# x264's constant rate factor: 18 is visually lossless, 23 its default.
_H264_QUALITY = "20"
# MPEG's own clock, fine enough for any frame rate.
_TIME_BASE = Fraction(1, 90_000)


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
        """Complete the file."""


def open_sink(path: Path, info: SourceInfo) -> Sink:
    """A sink for a source, chosen by the name of the file that it writes.

    Args:
        path: `.jpg` or `.png`: a picture; `.mp4`, `.mkv` or `.mov`: a video; `.json` or `.jsonl`:
            a line of JSON a frame; a folder, or a name without a suffix: a folder of pictures.
        info: of the source.

    Raises:
        InvalidInputError: the suffix is unknown, or does not suit the source.
        UnavailableError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    try:
        if path.is_dir() or not suffix:
            path.mkdir(parents=True, exist_ok=True)
            return FolderSink(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix in JSON_SUFFIXES:
            return JsonLinesSink(path.open("w", encoding="utf-8"))
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error.strerror}") from error
    if suffix in VIDEO_SUFFIXES:
        return VideoSink(path, info.frames_per_second or DEFAULT_FRAMES_PER_SECOND)
    if suffix in PICTURE_SUFFIXES:
        if info.kind is not SourceKind.PICTURE:
            raise InvalidInputError(
                f"{path} is one picture, {info.name} has many: name a folder or a video instead"
            )
        return PictureSink(path)
    known = ", ".join(sorted(PICTURE_SUFFIXES | VIDEO_SUFFIXES | JSON_SUFFIXES))
    raise InvalidInputError(f"{path}: unknown kind of file; known: {known}, or a folder")


class JsonLinesSink:
    """A line of JSON a frame; see `client.results.result_to_json`."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, which is closed at the end."""
        self._stream = stream

    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Write one line; see `Sink`."""
        self._stream.write(json.dumps(result_to_json(result)) + "\n")

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


class PictureSink:
    """One annotated picture."""

    def __init__(self, path: Path) -> None:
        """Write to `path`; its suffix is the format."""
        self._path = path

    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Write the file; see `Sink`."""
        pixels = annotated(frame, result)
        if pixels is not None:
            _write_picture(self._path, pixels)

    def close(self) -> None:
        """The file is complete already."""


class FolderSink:
    """A folder of annotated pictures, named after the frames."""

    def __init__(self, folder: Path) -> None:
        """Write into `folder`, which exists."""
        self._folder = folder

    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Write one file; see `Sink`."""
        name = Path(frame.name)
        if name.suffix.lower() not in PICTURE_SUFFIXES:
            name = Path(f"frame-{result.frame_id:06d}.jpg")
        pixels = annotated(frame, result)
        if pixels is not None:
            _write_picture(self._folder / name.name, pixels)

    def close(self) -> None:
        """All files are complete already."""


class VideoSink:
    """An H.264 video; the first frame decides its size, later ones are fitted into it."""

    def __init__(self, path: Path, frames_per_second: float) -> None:
        """Create the file.

        Args:
            path: its suffix is the container's format.
            frames_per_second: constant.

        Raises:
            UnavailableError: it cannot be written.
        """
        self._path = path
        self._ticks_per_frame = float(1 / _TIME_BASE) / frames_per_second
        self._rate = Fraction(frames_per_second).limit_denominator(1001)
        self._frames = 0
        self._stream: av.VideoStream | None = None
        try:
            self._container = av.open(str(path), "w")
        except OSError as error:
            raise UnavailableError(f"{path} cannot be written: {error.strerror}") from error

    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Encode one frame; see `Sink`."""
        pixels = annotated(frame, result)
        if pixels is None:
            return
        if self._stream is None:
            self._stream = self._add_stream(*pixels.shape[:2])
        fitted = _fit(pixels, self._stream.height, self._stream.width)
        picture = av.VideoFrame.from_ndarray(fitted, format="bgr24")
        picture.pts = round(self._frames * self._ticks_per_frame)
        picture.time_base = _TIME_BASE
        self._frames += 1
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Write what the encoder holds and complete the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def _add_stream(self, height: int, width: int) -> av.VideoStream:
        stream = self._container.add_stream(
            "libx264", rate=self._rate, options={"crf": _H264_QUALITY, "preset": "veryfast"}
        )
        # 4:2:0, which every player shows, has one colour sample for 2 x 2 pixels.
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = _TIME_BASE
        return stream


def annotated(frame: SourceFrame, result: FrameResult) -> np.ndarray | None:
    """The very picture that was sent, with its detections.

    Returns:
        HxWx3, uint8, BGR; None if it is no picture, for which the server has refused it.

    Raises:
        InvalidInputError: the frame is no picture, though it was served.
    """
    try:
        return draw_detections(decode_picture(frame.image), result.detections)
    except InvalidInputError:
        if result.error is None:
            raise
        return None


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    done, buffer = cv2.imencode(path.suffix, pixels)
    if not done:
        raise UnavailableError(f"{path} cannot be encoded")
    try:
        path.write_bytes(buffer.tobytes())
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error.strerror}") from error


def _fit(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale down if needed, and pad on the right and below with the border's own colours."""
    scale = min(1.0, height / pixels.shape[0], width / pixels.shape[1])
    if scale < 1.0:
        size = (max(1, int(pixels.shape[1] * scale)), max(1, int(pixels.shape[0] * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    missing = (height - pixels.shape[0], width - pixels.shape[1])
    if missing == (0, 0):
        return pixels
    return cv2.copyMakeBorder(pixels, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
