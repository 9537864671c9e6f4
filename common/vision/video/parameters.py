"""What parameter sets and slices say that has to be known before a decoder gets them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from common.domain.errors import InvalidInputError
from common.vision.limits import ImageSize

BIT_DEPTHS = (8, 10)
"""Bits of each colour that are served."""

# Beside those that later ones refer to: the one that is decoded, and those on their way out.
_MORE_PICTURES = 3


@dataclass(frozen=True)
class SequenceParameters:
    """Of an H.264 or H.265 sequence parameter set (SPS).

    Attributes:
        size: of the pictures as they are shown, pixels.
        coded_size: of the pictures as they are coded, pixels.
        bit_depth: bits of a colour.
        chroma_format: 0 (grey), 1 (4:2:0), 2 (4:2:2) or 3 (4:4:4).
        kept_pictures: how many pictures the decoder keeps for later ones to refer to.
        reordered_pictures: how many pictures may follow in decoding and precede in display; None
            where the set does not say.
        is_interlaced: pictures may be fields.
        order_bits: of the part of the order of display that each slice tells; None where that is
            not told in this way.
        number_bits: H.264's: of `frame_num`.
        numbers_have_gaps: H.264's: pictures may be left out.
        separate_planes: colours are coded as three pictures.
    """

    size: ImageSize
    coded_size: ImageSize
    bit_depth: int
    chroma_format: int
    kept_pictures: int
    reordered_pictures: Optional[int]
    is_interlaced: bool
    order_bits: Optional[int]
    number_bits: int = 0
    numbers_have_gaps: bool = False
    separate_planes: bool = False

    @property
    def decoder_bytes(self) -> int:
        """The memory that a decoder takes for its pictures."""
        samples = (2, 3, 4, 6)[self.chroma_format]
        pixels = self.coded_size.width * self.coded_size.height
        bytes_per_sample = 1 if self.bit_depth == 8 else 2
        pictures = self.kept_pictures + _MORE_PICTURES
        return pictures * pixels * samples * bytes_per_sample // 2

    def check_served(self) -> None:
        """Refuse video of a kind that is not served.

        Raises:
            InvalidInputError: it is; the sentence says of which kind.
        """
        if self.is_interlaced:
            raise InvalidInputError(
                "the video is interlaced, which is not served; have the camera send whole pictures "
                "(progressive)"
            )
        if self.bit_depth not in BIT_DEPTHS:
            raise InvalidInputError(
                f"the video has {self.bit_depth} bits a colour; served are "
                f"{' and '.join(str(each) for each in BIT_DEPTHS)}"
            )
        if self.separate_planes:
            raise InvalidInputError("the video codes each colour on its own, which is not served")
        if self.reordered_pictures:
            raise InvalidInputError(B_FRAMES)


RENEWED_BIT_BY_BIT = (
    "the video renews its picture bit by bit, over many frames (intra refresh), which is not "
    "served; have the encoder send key frames"
)
B_FRAMES = (
    "the video has B frames, or says that it may have: pictures are decoded in another order than "
    "they are shown in, and each frame would have to wait for later ones; encode it without them"
)


class PictureKind(Enum):
    """How decoding may go on with a picture."""

    # Nothing before it is needed, and the order of display starts anew.
    RESTART = "restart"
    # Nothing before it is needed.
    KEY = "key"
    OTHER = "other"


@dataclass(frozen=True)
class SliceStart:
    """The beginning of a slice's header.

    Attributes:
        is_first: it is the first of its picture.
        kind: what its NAL unit says of the picture.
        is_intra: it refers to no other picture.
        is_reference: later pictures may refer to this one.
        order: `order_bits` of the picture's place in the order of display; None where that is not
            told in this way.
        counts_for_order: the next pictures' order is told relative to this one's.
        number: H.264's `frame_num`.
    """

    is_first: bool
    kind: PictureKind = PictureKind.OTHER
    is_intra: bool = False
    is_reference: bool = True
    order: Optional[int] = None
    counts_for_order: bool = True
    number: int = 0


@dataclass(frozen=True)
class PictureParameters:
    """Of an H.264 or H.265 picture parameter set (PPS).

    Attributes:
        sequence_parameters_id: which sequence parameter set it needs.
        has_output_flag: H.265's: slices say whether the picture is shown.
        extra_bits: H.265's: how many bits each slice's header has for extensions.
    """

    sequence_parameters_id: int
    has_output_flag: bool = False
    extra_bits: int = 0
