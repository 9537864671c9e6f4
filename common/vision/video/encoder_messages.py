"""What a service and a process that encodes pictures tell each other.

The service itself loads neither decoders nor encoders; only its processes do.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from common.vision.confinement import Confinement

ENCODED, UNDECODABLE, UNENCODABLE, OUT_OF_MEMORY = range(4)

FILE = 0
"""The kind of a JPEG or PNG file; raw pixels are of kind 1 + the index of their `PixelFormat`."""


class Request(NamedTuple):
    """One picture to encode anew.

    Attributes:
        codec: index of the codec in `FrameCodec`.
        quality: of JPEG, 1 to 100, the higher the better; the CRF of video, the lower the better.
        begins: a new video begins with it.
        kind: of the picture, `FILE` or of raw pixels.
        picture_bytes: the size of the picture at the buffer's start.
        frame_width: the width that its header promises, pixels.
        frame_height: the height that its header promises, pixels.
        room_bytes: the most bytes that may be written behind the picture.
    """

    codec: int
    quality: int
    begins: bool
    kind: int
    picture_bytes: int
    frame_width: int
    frame_height: int
    room_bytes: int


class Reply(NamedTuple):
    """The outcome: a status, the size of what was written, and whether it is a key frame."""

    status: int
    data_bytes: int = 0
    key_frame: bool = False


REQUEST = struct.Struct("=BB?BQIIQ")
REPLY = struct.Struct("=BQ?")


def serve(given: Confinement) -> None:
    """Run the process; see `encoder_child.serve`."""
    from common.vision.video import encoder_child

    encoder_child.serve(given)
