"""What runs inside a process that decodes pictures and encodes them anew.

The service writes a picture at the start of the shared buffer, and the process writes what it made
of it behind. The encoder's state lives and dies with the process. `common.vision.confinement` says
what confines it.
"""

from __future__ import annotations

from typing import Optional

import cv2
import numpy as np

from common.domain.errors import InvalidInputError
from common.domain.frames import PixelFormat, RawImage
from common.domain.video import FrameCodec, VideoCodec
from common.vision.confinement import Confinement, picture_offset, serve_confined
from common.vision.decode import decode_file, decode_raw
from common.vision.limits import ImageSize
from common.vision.video.encoder_messages import (
    ENCODED,
    FILE,
    OUT_OF_MEMORY,
    REPLY,
    REQUEST,
    UNDECODABLE,
    UNENCODABLE,
    Reply,
    Request,
)
from common.vision.video.encoders import Encoded, LibavEncoder, UnencodableError


def serve(given: Confinement) -> None:
    """Encode one stream's pictures until the service closes its end of the channel, or ends."""
    serve_confined(given, REQUEST.size, _Stream().answer)


class _Stream:
    """The stream whose pictures this process encodes."""

    def __init__(self) -> None:
        self._encoder: Optional[LibavEncoder] = None

    def answer(self, request: bytes, buffer: np.ndarray) -> bytes:
        """The packed reply to a packed request."""
        return REPLY.pack(*self._reply(Request(*REQUEST.unpack(request)), buffer))

    def _reply(self, request: Request, buffer: np.ndarray) -> Reply:
        try:
            encoded = self._encoded(request, _rgb(request, buffer[: request.picture_bytes]))
        except InvalidInputError:
            return Reply(UNDECODABLE)
        except UnencodableError:
            return Reply(UNENCODABLE)
        except (MemoryError, cv2.error):
            return Reply(OUT_OF_MEMORY)
        size = len(encoded.data)
        if size > request.room_bytes:
            return Reply(UNENCODABLE)
        begin = picture_offset(request.picture_bytes)
        buffer[begin : begin + size] = np.frombuffer(encoded.data, np.uint8)
        return Reply(ENCODED, size, encoded.key_frame)

    def _encoded(self, request: Request, rgb: np.ndarray) -> Encoded:
        codec = tuple(FrameCodec)[request.codec].video
        if codec is None:
            return _jpeg(rgb, request.quality)
        return self._encoder_for(codec, request).encode(rgb)

    def _encoder_for(self, codec: VideoCodec, request: Request) -> LibavEncoder:
        size = ImageSize(request.frame_width, request.frame_height)
        encoder = self._encoder
        if request.begins or encoder is None or encoder.size != size:
            # What a failed picture leaves behind would be of no use to the next one.
            self._encoder = None
            encoder = self._encoder = LibavEncoder(codec, size, request.quality)
        return encoder


def _rgb(request: Request, data: np.ndarray) -> np.ndarray:
    size = ImageSize(request.frame_width, request.frame_height)
    if request.kind == FILE:
        return decode_file(data, size)
    pixel_format = tuple(PixelFormat)[request.kind - 1]
    return decode_raw(RawImage(size.width, size.height, pixel_format, data.tobytes()))


def _jpeg(rgb: np.ndarray, quality: int) -> Encoded:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise UnencodableError
    return Encoded(data.tobytes(), key_frame=True)
