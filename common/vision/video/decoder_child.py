"""What runs inside a process that decodes video; `common.vision.confinement` says how.

The service writes an access unit at the start of the shared buffer, and the process writes the
resized picture behind it. The decoder's state lives and dies with the process.
"""

from __future__ import annotations

import os
import time
from typing import Optional

import cv2
import numpy as np

from common.domain.video import VideoCodec
from common.vision.confinement import (
    DECODE_REPLY,
    Confinement,
    DecodeReply,
    picture_in,
    serve_confined,
)
from common.vision.limits import ImageSize
from common.vision.resize import resize_bilinear
from common.vision.video.decoders import (
    DamagedError,
    Decoder,
    LibavDecoder,
    NoDecoderError,
    NoPictureError,
)
from common.vision.video.gstreamer import GStreamerDecoder
from common.vision.video.messages import (
    DAMAGED,
    DECODED,
    NO_DECODER,
    NO_PICTURE,
    OUT_OF_MEMORY,
    REQUEST,
    Request,
)

# A decoder that has once needed more CPU time than this for a picture makes way for all others.
_HEAVY_SECONDS = 0.25
_HEAVY_NICENESS = 5


def serve(given: Confinement) -> None:
    """Decode one stream until the service closes its end of the channel, or ends."""
    serve_confined(given, REQUEST.size, _Stream().answer)


class _Stream:
    """The stream that this process decodes."""

    def __init__(self) -> None:
        self._is_heavy = False
        self._decoder: Optional[Decoder] = None

    def answer(self, request: bytes, buffer: np.ndarray) -> bytes:
        """The packed reply to a packed request."""
        started = time.process_time()
        reply = self._reply(Request(*REQUEST.unpack(request)), buffer)
        if not self._is_heavy and time.process_time() - started > _HEAVY_SECONDS:
            self._is_heavy = True
            os.nice(_HEAVY_NICENESS)
        return DECODE_REPLY.pack(*reply)

    def _reply(self, request: Request, buffer: np.ndarray) -> DecodeReply:
        try:
            rgb = self._decoded(request, buffer)
            decoded = time.perf_counter()
            if rgb is not None:
                size = ImageSize(request.width, request.height)
                target = picture_in(buffer, request.unit_bytes, size)
                resize_bilinear(rgb, request.height, request.width, target)
        except DamagedError:
            return DecodeReply(DAMAGED)
        except NoPictureError:
            return DecodeReply(NO_PICTURE)
        except NoDecoderError:
            return DecodeReply(NO_DECODER)
        except (MemoryError, cv2.error):
            return DecodeReply(OUT_OF_MEMORY)
        return DecodeReply(DECODED, resize_seconds=time.perf_counter() - decoded)

    def _decoded(self, request: Request, buffer: np.ndarray) -> Optional[np.ndarray]:
        if request.begins or self._decoder is None:
            if self._decoder is not None:
                self._decoder.close()
            codec = tuple(VideoCodec)[request.codec]
            self._decoder = GStreamerDecoder(codec) if request.by_hardware else LibavDecoder(codec)
        data = buffer[: request.unit_bytes].tobytes()
        size = ImageSize(request.frame_width, request.frame_height)
        return self._decoder.decode(data, size, is_wanted=request.is_wanted)
