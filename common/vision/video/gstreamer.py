"""A decoder behind GStreamer, for the hardware of a Jetson; it runs inside a confined process only.

GStreamer has no Python bindings in JetPack's containers, so its own launcher runs the pipeline as a
process beside: access units go in by one pipe, pictures come out by another, and it ends when these
are closed. Decoded pictures (YUV)
are the same for every decoder by the standards, and they are converted as FFmpeg's are.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import List, NamedTuple, Optional

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from common.domain.video import VideoCodec
from common.vision.limits import ImageSize
from common.vision.video.decoders import (
    DamagedError,
    Decoder,
    LibavDecoder,
    NoDecoderError,
    NoPictureError,
)
from common.vision.video.hardware import LAUNCHER

# What begins the next access unit (a delimiter), twice: the parser lets go of an access unit once
# it has seen a whole NAL unit of the next, which ends where another begins.
_DELIMITERS = {
    VideoCodec.H264: 2 * b"\0\0\0\1\x09\xf0",
    VideoCodec.H265: 2 * b"\0\0\0\1\x46\x01\x50",
}
_PARSERS = {VideoCodec.H264: "h264parse", VideoCodec.H265: "h265parse"}
# A pipeline starts with its first access unit.
_FIRST_SECONDS = 8.0
_SECONDS = 2.0


class Elements(NamedTuple):
    """The part of a pipeline that decodes.

    Attributes:
        decoder: with its properties.
        converter: takes pictures from the decoder's memory.
    """

    decoder: str
    converter: str


JETSON = Elements("nvv4l2decoder disable-dpb=true enable-max-performance=true", "nvvidconv")
"""The hardware decoder of JetPack 4 and later."""


def pipeline(codec: VideoCodec, elements: Elements) -> List[str]:
    """The launcher's arguments."""
    text = (
        f"fdsrc fd=0 ! {_PARSERS[codec]} ! {elements.decoder} ! {elements.converter} ! "
        "video/x-raw,format=I420 ! fdsink fd=1 sync=false"
    )
    return [LAUNCHER, "--quiet", *text.split()]


class GStreamerDecoder(Decoder):
    """Decodes by a GStreamer pipeline, 8 bits and 4:2:0 only.

    It does not tell of damage: only a picture that does not come at all is known to be damaged.
    """

    def __init__(self, codec: VideoCodec, elements: Elements = JETSON) -> None:
        """Start the pipeline.

        Raises:
            NoDecoderError: it cannot be started.
        """
        self._codec = codec
        # The first picture as FFmpeg decodes it, whose kind of colours all others share.
        self._example: Optional[av.VideoFrame] = None
        self._seconds = _FIRST_SECONDS
        self._reformatter = VideoReformatter()
        try:
            self._process = subprocess.Popen(
                pipeline(codec, elements),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        except OSError as error:
            raise NoDecoderError from error

    def decode(self, data: bytes, size: ImageSize, *, is_wanted: bool) -> Optional[np.ndarray]:
        """See `Decoder`."""
        is_first = self._example is None
        if self._example is None:
            self._example = LibavDecoder(self._codec).frame(data, size)
        shape = _Planes.of(size)
        # The picture before has been read, so both pipes are empty, and only one side waits.
        try:
            picture = self._exchange(data + _DELIMITERS[self._codec], shape.total_bytes)
        except (DamagedError, NoPictureError) as error:
            if is_first:
                # FFmpeg has decoded it, so that the pipeline is at fault.
                raise NoDecoderError from error
            raise
        self._seconds = _SECONDS
        if not is_wanted:
            return None
        frame = av.VideoFrame.from_ndarray(shape.packed(picture), format=self._example.format.name)
        frame.colorspace = self._example.colorspace
        frame.color_range = self._example.color_range
        rgb: np.ndarray = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        return np.ascontiguousarray(rgb[: size.height, : size.width])

    def close(self) -> None:
        """End the pipeline at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _exchange(self, data: bytes, picture_bytes: int) -> np.ndarray:
        """Write an access unit, and read its picture meanwhile: uint8 [picture_bytes]."""
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the pipeline has no pipes")
        into, out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(into, False)
        picture, got, rest = np.empty(picture_bytes, np.uint8), 0, memoryview(data)
        deadline = time.monotonic() + self._seconds
        try:
            while rest or got < picture_bytes:
                left = deadline - time.monotonic()
                writable = [into] if rest else []
                ready = select.select([out], writable, [], max(0.0, left))
                if left <= 0 or not any(ready):
                    raise NoPictureError
                if ready[1]:
                    rest = rest[os.write(into, rest[: 1 << 16]) :]
                if ready[0]:
                    part = os.read(out, picture_bytes - got or 1)
                    if not part or got == picture_bytes:
                        raise DamagedError
                    picture[got : got + len(part)] = np.frombuffer(part, np.uint8)
                    got += len(part)
        except BrokenPipeError as error:
            raise DamagedError from error
        return picture


class _Planes(NamedTuple):
    """How GStreamer lays out a picture in I420: rows of each plane are multiples of 4 bytes."""

    width: int
    height: int
    row_bytes: int
    colour_row_bytes: int

    @classmethod
    def of(cls, size: ImageSize) -> _Planes:
        even_width, even_height = _multiple(size.width, 2), _multiple(size.height, 2)
        return cls(even_width, even_height, _multiple(even_width, 4), _multiple(even_width // 2, 4))

    @property
    def total_bytes(self) -> int:
        return self.height * (self.row_bytes + self.colour_row_bytes)

    def packed(self, picture: np.ndarray) -> np.ndarray:
        """The planes without padding, as PyAV takes them: uint8 [1.5 height,width]."""
        light_bytes = self.height * self.row_bytes
        light = picture[:light_bytes].reshape(self.height, self.row_bytes)[:, : self.width]
        colours = picture[light_bytes:].reshape(self.height, self.colour_row_bytes)
        colours = np.ascontiguousarray(colours[:, : self.width // 2])
        return np.concatenate([light, colours.reshape(self.height // 2, self.width)])


def _multiple(value: int, of: int) -> int:
    return -(-value // of) * of
