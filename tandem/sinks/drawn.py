"""A video with boxes drawn."""

from __future__ import annotations

import os
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from common.domain.errors import TandemError, UnavailableError
from common.files import Replacement, replacing
from tandem.results import FrameResult
from tandem.sinks.base import annotated, settle, told
from tandem.sources import SourceFrame

# Of a video made from pictures.
DEFAULT_FRAMES_PER_SECOND = 25.0
# x264's constant rate factor: 18 is visually lossless, 23 its default. Without frames that refer to
# later ones, a packet's place in the file is its time, and so the last one's length can be told.
_H264_OPTIONS = {"crf": "20", "preset": "veryfast", "bf": "0"}
# MPEG's own clock, fine enough for any frame rate.
_TIME_BASE = Fraction(1, 90_000)


class VideoSink:
    """An H.264 video; the first frame decides its size, later ones are fitted into it.

    Each frame is shown when, and as long as, its source showed it.
    """

    def __init__(self, path: Path, frames_per_second: float = DEFAULT_FRAMES_PER_SECOND) -> None:
        """Create the file.

        Args:
            path: its suffix is the container's format.
            frames_per_second: of frames that do not say when they are shown.

        Raises:
            UnavailableError: it cannot be written.
        """
        self._wanted = path
        self._times = _Times(frames_per_second)
        self._rate = Fraction(frames_per_second).limit_denominator(1001)
        self._stream: av.VideoStream | None = None
        self._latest: av.Packet[av.VideoStream] | None = None
        self._is_broken = False
        with told(path):
            self._replacement = Replacement(path)
            self._container = av.open(str(self._replacement.path), "w")

    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Encode one frame; see `Sink`."""
        pixels = annotated(frame, result)
        if pixels is None:
            return
        with told(self._wanted):
            if self._stream is None:
                self._stream = self._add_stream(*pixels.shape[:2])
            fitted = _fit(pixels, self._stream.height, self._stream.width)
            picture = av.VideoFrame.from_ndarray(fitted, format="bgr24")
            picture.pts, picture.time_base = self._times.next(frame), _TIME_BASE
            self._mux(self._stream.encode(picture))

    def close(self) -> None:
        """Write what the encoder holds and complete the file; see `Sink`."""
        try:
            with told(self._wanted):
                if self._stream is not None and not self._is_broken:
                    self._mux(self._stream.encode(None))
                    self._mux_latest(self._times.last_duration())
                self._container.close()
                settle(self._replacement, self._stream is not None and not self._is_broken)
        except TandemError:
            self._replacement.discard()
            raise

    def _mux(self, packets: list[av.Packet[av.VideoStream]]) -> None:
        """Write all packets but the last, whose length only the next one tells."""
        for packet in packets:
            if self._latest is not None and self._latest.pts is not None:
                self._mux_latest((packet.pts or 0) - self._latest.pts)
            self._latest = packet

    def _mux_latest(self, duration: int) -> None:
        if self._latest is None:
            return
        self._latest.duration = duration
        self._is_broken = True
        self._container.mux(self._latest)
        self._is_broken = False
        self._latest = None

    def _add_stream(self, height: int, width: int) -> av.VideoStream:
        stream = self._container.add_stream("libx264", rate=self._rate, options=_H264_OPTIONS)
        # 4:2:0, which every player shows, has one colour sample for 2 x 2 pixels.
        stream.height, stream.width = height + height % 2, width + width % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _TIME_BASE
        return stream


class _Times:
    """When each frame of a video is shown, and how long the last one: ticks of `_TIME_BASE`."""

    def __init__(self, frames_per_second: float) -> None:
        self._ticks_per_frame = float(1 / _TIME_BASE) / frames_per_second
        self._frames = 0
        self._latest = -1
        self._duration: int | None = None

    def next(self, frame: SourceFrame) -> int:
        """Of the next frame; each later than the one before, which a container needs."""
        if frame.seconds is None:
            wanted = round(self._frames * self._ticks_per_frame)
        else:
            wanted = round(frame.seconds / _TIME_BASE)
        self._duration = None
        if frame.duration_seconds is not None:
            self._duration = max(1, round(frame.duration_seconds / _TIME_BASE))
        self._frames += 1
        self._latest = max(self._latest + 1, wanted)
        return self._latest

    def last_duration(self) -> int:
        """As its source said; else that of a mean frame."""
        if self._duration is not None:
            return self._duration
        if self._frames < 2:
            return round(self._ticks_per_frame)
        return max(1, round(self._latest / (self._frames - 1)))


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


PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png"}


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

    def __init__(self, folder: Path, names: Collection[str] = ()) -> None:
        """Write into `folder`, which exists; `names` are those of the source's files."""
        self._folder = folder
        self._names = names

    def write(self, frame: SourceFrame, result: FrameResult) -> None:
        """Write one file; see `Sink`."""
        name = Path(frame.name).name
        if not _can_be_written(name):
            name = f"frame-{result.frame_id:06d}{Path(name).suffix.lower()}"
        if Path(name).suffix.lower() not in PICTURE_SUFFIXES:
            name = f"{name}.jpg" if name in self._names else f"frame-{result.frame_id:06d}.jpg"
            # Another picture may bear this name already.
            while name in self._names:
                name = f"{Path(name).stem}.boxes.jpg"
        pixels = annotated(frame, result)
        if pixels is not None:
            _write_picture(self._folder / name, pixels)

    def close(self) -> None:
        """All files are complete already."""


def _can_be_written(name: str) -> bool:
    """Whether a file may have this name, which may have come from bytes of another encoding."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def _write_picture(path: Path, pixels: np.ndarray) -> None:
    done, buffer = cv2.imencode(path.suffix, pixels)
    if not done:
        raise UnavailableError(f"{path} cannot be encoded")
    with told(path), replacing(path) as beside:
        beside.write_bytes(buffer.tobytes())
