"""The process that encodes one stream's pictures anew, and what its end means for them."""

from __future__ import annotations

from typing import Callable, NamedTuple

import numpy as np

from common.domain.errors import InvalidInputError
from common.domain.frames import Image, PixelFormat, RawImage
from common.domain.video import FrameCodec
from common.vision.confined_process import ConfinedProcess, CpuTimeError
from common.vision.confinement import picture_offset
from common.vision.decode import check_raw, copy_needed
from common.vision.headers import read_header
from common.vision.limits import (
    DEFAULT_LIMITS,
    DEFAULT_MAX_PIXELS,
    ImageSize,
    decode_deadline_seconds,
    wall_deadline_seconds,
)
from common.vision.video import encoder_messages
from common.vision.video.encoder_messages import FILE, REPLY, REQUEST, Reply, Request

# Beside the pixels: the file, and what encoders take for themselves.
_MEMORY_BYTES = 512 << 20
# The picture as RGB, as YUV, and the encoder's frames and predictions, of the largest picture.
_MEMORY_BYTES_PER_PIXEL = 48
# No encoder makes more of a picture than its pixels as they are, and some parameter sets.
_ROOM_BYTES_PER_PIXEL = 3
_ROOM_BYTES = 64 << 10
# x265's `medium` takes longer for a picture than decoding it does.
_ENCODING_FACTOR = 4.0


class EncodedPicture(NamedTuple):
    """A picture as it crosses a link.

    Attributes:
        data: a JPEG file, or an access unit.
        key_frame: decoding can start here.
    """

    data: bytes
    key_frame: bool


class PictureEncoder:
    """Encodes one stream's pictures. One thread at a time may use it, and any may close it."""

    def __init__(self, codec: FrameCodec, quality: int) -> None:
        """Encode nothing yet; a process starts with the first picture.

        Args:
            codec: of what is made of them.
            quality: of JPEG, 1 to 100, the higher the better; the CRF of video, the lower the
                better.
        """
        self._codec = codec
        self._quality = quality
        memory_bytes = _MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * DEFAULT_MAX_PIXELS
        self._process = ConfinedProcess(encoder_messages.serve, "image", memory_bytes)

    def encode(self, image: Image, *, begins: bool) -> EncodedPicture:
        """Encode the next picture; one of another size than the last begins a new video.

        Args:
            image: encoded or raw.
            begins: a new video begins with it, whose first key frame it is.

        Raises:
            InvalidInputError: it cannot be decoded, exceeds a limit, crashes a decoder, or has a
                size that the codec does not take. The next one has to begin a new video.
            UnavailableError: this was closed, or the machine gives the process no time or memory.
        """
        picture = _checked(image)
        pixels = picture.size.width * picture.size.height
        room_bytes = _ROOM_BYTES + _ROOM_BYTES_PER_PIXEL * pixels
        begin = picture_offset(picture.data_bytes)
        codec = tuple(FrameCodec).index(self._codec)
        request = Request(
            *(codec, self._quality, begins, picture.kind, picture.data_bytes),
            *(*picture.size, room_bytes),
        )
        cpu_seconds = _ENCODING_FACTOR * decode_deadline_seconds(pixels, picture.data_bytes)
        try:
            answer = self._process.ask(
                REQUEST.pack(*request),
                REPLY.size,
                lambda buffer: picture.copy_to(buffer[: picture.data_bytes]),
                buffer_bytes=begin + room_bytes,
                cpu_seconds=cpu_seconds,
                wall_seconds=wall_deadline_seconds(cpu_seconds),
            )
        except CpuTimeError:
            raise InvalidInputError(
                f"encoding the image as {self._codec.value} takes more than the limit of "
                f"{cpu_seconds:.1f} s of CPU time for {picture.size.width} x {picture.size.height} "
                "pixels"
            ) from None
        reply = Reply(*REPLY.unpack(answer))
        if reply.status != encoder_messages.ENCODED:
            raise InvalidInputError(self._refusal(reply.status, picture.size))
        data = self._process.buffer[begin : begin + reply.data_bytes].tobytes()
        return EncodedPicture(data, reply.key_frame)

    def close(self) -> None:
        """Kill the process at once, whatever it is doing; any thread may call this."""
        self._process.close()

    def _refusal(self, status: int, size: ImageSize) -> str:
        if status == encoder_messages.UNDECODABLE:
            return "the image cannot be decoded"
        what = f"an image of {size.width} x {size.height} pixels"
        if status == encoder_messages.OUT_OF_MEMORY:
            limit = self._process.memory_bytes >> 20
            return f"encoding {what} takes more memory than the limit of {limit} MiB"
        return f"{what} cannot be encoded as {self._codec.value} (frame_codec)"


class _Picture(NamedTuple):
    """A picture that passed every check which needs no decoder.

    Attributes:
        kind: see `Request`.
        size: in pixels.
        data_bytes: how many bytes a decoder needs of it.
        copy_to: copies these to an array of this size.
    """

    kind: int
    size: ImageSize
    data_bytes: int
    copy_to: Callable[[np.ndarray], None]


def _checked(image: Image) -> _Picture:
    if isinstance(image, RawImage):
        check_raw(image, DEFAULT_MAX_PIXELS, DEFAULT_LIMITS)
        pixels = np.frombuffer(image.data, np.uint8)
        kind = 1 + tuple(PixelFormat).index(image.pixel_format)
        size = ImageSize(image.width, image.height)
        return _Picture(kind, size, len(pixels), lambda target: np.copyto(target, pixels))
    data = image.data
    header = read_header(data, DEFAULT_MAX_PIXELS, DEFAULT_LIMITS)
    return _Picture(
        *(FILE, header.size, header.needed_bytes),
        lambda target: copy_needed(data, header, target),
    )
