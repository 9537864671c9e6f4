"""What a stream of video may ask of the machine that decodes it."""

from __future__ import annotations

from dataclasses import dataclass

from common.vision.limits import DecodingLimits

DEFAULT_UNIT_BYTES = 16 << 20
"""Upper limit of an access unit unless settings say otherwise."""

DEFAULT_DECODER_BYTES = 256 << 20
"""Upper limit of what a decoder keeps of a stream's pictures unless settings say otherwise."""


@dataclass(frozen=True)
class VideoLimits:
    """What video may ask of the machine that decodes it.

    Attributes:
        pixels: the largest width times height.
        pictures: on the shape of its pictures.
        unit_bytes: the largest access unit.
        decoder_bytes: the most memory for the pictures that a decoder has to keep.
        by_hardware: video that hardware decodes is decoded by it.
    """

    pixels: int
    pictures: DecodingLimits
    unit_bytes: int = DEFAULT_UNIT_BYTES
    decoder_bytes: int = DEFAULT_DECODER_BYTES
    by_hardware: bool = False
