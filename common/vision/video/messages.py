"""What a service and a process that decodes video tell each other.

The service itself loads no decoders; only its processes do.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from common.vision.confinement import Confinement

DECODED, DAMAGED, NO_PICTURE, OUT_OF_MEMORY, NO_DECODER = range(5)


class Request(NamedTuple):
    """One access unit to decode.

    Attributes:
        codec: index of the codec in `VideoCodec`.
        by_hardware: a new decoder is one of hardware.
        begins: a new decoder gets it.
        is_wanted: the picture is wanted, not only what later ones need of it.
        unit_bytes: the size of the access unit at the buffer's start.
        frame_width: the width that the parameter sets promise, pixels.
        frame_height: the height that the parameter sets promise, pixels.
        width: the width of the picture that is wanted, pixels.
        height: the height of the picture that is wanted, pixels.
    """

    codec: int
    by_hardware: bool
    begins: bool
    is_wanted: bool
    unit_bytes: int
    frame_width: int
    frame_height: int
    width: int
    height: int


REQUEST = struct.Struct("=B???QIIII")


def serve(given: Confinement) -> None:
    """Run the process; see `decoder_child.serve`."""
    from common.vision.video import decoder_child

    decoder_child.serve(given)
