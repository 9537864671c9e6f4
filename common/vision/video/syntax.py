"""What has to be known of a codec's NAL units; H.264 and H.265 each say it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Tuple

from common.vision.video.parameters import PictureParameters, SequenceParameters, SliceStart


class Role(Enum):
    """What a NAL unit is for; decoders get all but the others."""

    SLICE = "slice"
    VIDEO_PARAMETERS = "VPS"
    SEQUENCE_PARAMETERS = "SPS"
    PICTURE_PARAMETERS = "PPS"
    RECOVERY_POINT = "recovery point"
    OTHER = "other"


PARAMETER_SETS = (Role.VIDEO_PARAMETERS, Role.SEQUENCE_PARAMETERS, Role.PICTURE_PARAMETERS)


class Syntax(ABC):
    """Reads NAL units of one codec, each from its header on."""

    @abstractmethod
    def role(self, unit: bytes) -> Role:
        """What a NAL unit is for.

        Raises:
            InvalidInputError: it is of another codec, or of a kind that is not served.
        """

    @abstractmethod
    def read_sequence_parameters(self, unit: bytes) -> Tuple[int, SequenceParameters]:
        """The id of a sequence parameter set, and what it says.

        Raises:
            InvalidInputError: it is damaged, or says what cannot be.
        """

    @abstractmethod
    def read_picture_parameters(self, unit: bytes) -> Tuple[int, PictureParameters]:
        """The id of a picture parameter set, and what it says.

        Raises:
            InvalidInputError: it is damaged.
        """

    @abstractmethod
    def picture_parameters_id(self, unit: bytes) -> int:
        """Which picture parameter set a slice needs.

        Raises:
            InvalidInputError: the slice is damaged.
        """

    @abstractmethod
    def read_slice(
        self, unit: bytes, picture: PictureParameters, sequence: SequenceParameters
    ) -> SliceStart:
        """The beginning of a slice, whose parameter sets are given.

        Raises:
            InvalidInputError: it is damaged.
        """

    @abstractmethod
    def is_certainly_key(self, unit: bytes) -> bool:
        """Whether decoding can start at a slice, as its NAL unit's kind says."""

    @abstractmethod
    def recovery_frames(self, unit: bytes) -> int:
        """After how many pictures all is whole if decoding starts at a recovery point."""
