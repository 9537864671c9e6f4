"""What runs inside a process that decodes pictures; `common.vision.confinement` says how.

The service writes the file at the start of the shared buffer, and the process writes the resized
picture behind it.
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

import cv2
import numpy as np

from common.domain.errors import InvalidInputError
from common.vision.confinement import (
    DECODE_REPLY,
    Confinement,
    DecodeReply,
    picture_in,
    serve_confined,
)
from common.vision.decode import decode_file
from common.vision.limits import ImageSize
from common.vision.resize import resize_bilinear

DECODED, UNDECODABLE, OUT_OF_MEMORY = range(3)


class Request(NamedTuple):
    """One frame to decode.

    Attributes:
        file_bytes: the size of the file at the buffer's start.
        frame_width: the width that the file's header promises, pixels.
        frame_height: the height that the file's header promises, pixels.
        width: the width of the picture that is wanted, pixels.
        height: the height of the picture that is wanted, pixels.
        halved: decode to half the size first, see `may_be_halved`.
    """

    file_bytes: int
    frame_width: int
    frame_height: int
    width: int
    height: int
    halved: bool


REQUEST = struct.Struct("=QIIII?")


def serve(given: Confinement) -> None:
    """Decode frames until the service closes its end of the channel, or ends."""
    serve_confined(given, REQUEST.size, _answer)


def _answer(request: bytes, buffer: np.ndarray) -> bytes:
    return DECODE_REPLY.pack(*_decode(Request(*REQUEST.unpack(request)), buffer))


def _decode(request: Request, buffer: np.ndarray) -> DecodeReply:
    started = time.process_time()
    size = ImageSize(request.frame_width, request.frame_height)
    target = picture_in(buffer, request.file_bytes, ImageSize(request.width, request.height))
    try:
        rgb = decode_file(buffer[: request.file_bytes], size, request.halved)
        cpu_seconds, decoded = time.process_time() - started, time.perf_counter()
        resize_bilinear(rgb, request.height, request.width, target)
    except InvalidInputError:
        return DecodeReply(UNDECODABLE)
    except (MemoryError, cv2.error):
        return DecodeReply(OUT_OF_MEMORY)
    return DecodeReply(DECODED, cpu_seconds, time.perf_counter() - decoded)
