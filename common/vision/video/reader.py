"""Checks a stream's access units one by one, before a decoder gets anything of them.

Access units come from strangers, and decoders make up what is missing without a word. So the
headers are read here first, in plain Python: what would take too much memory, cannot be served, or
needs a picture that is not there is refused in a sentence. No decoder has seen it then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from common.domain.errors import InvalidInputError, TandemError, UnavailableError
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from common.vision.limits import ImageSize, check_size
from common.vision.video.byte_stream import nal_units
from common.vision.video.h264 import H264Syntax
from common.vision.video.h265 import H265Syntax
from common.vision.video.limits import VideoLimits
from common.vision.video.order import OutOfOrderError, PictureOrder
from common.vision.video.parameter_sets import START_CODE, ParameterSets, Sequence
from common.vision.video.parameters import (
    B_FRAMES,
    RENEWED_BIT_BY_BIT,
    PictureKind,
    SliceStart,
)
from common.vision.video.syntax import PARAMETER_SETS, Role, Syntax

# What is coded beyond the picture's edges; a side is coded in blocks of at most 64.
_MOST_CROPPED = 1 << 20
# Of a NAL unit, what is read: all of a parameter set, and more of a slice than its header needs.
MAX_HEAD_BYTES = 4096
MAX_SLICE_HEAD_BYTES = 64


class _NoPictureError(InvalidInputError):
    """An access unit holds nothing for a decoder, such as an encoder's remarks alone."""


@dataclass(frozen=True)
class CheckedUnit:
    """An access unit that a decoder may get.

    Attributes:
        sets: parameter sets that it gets first, as a byte stream.
        data: the access unit.
        parts: the ranges of `data` that it gets, each with a start code in front.
        size: of the picture, pixels.
        begins: a new decoder gets it.
        is_needed: later pictures may refer to this one.
        is_common: it has 8 bits a colour and is 4:2:0, as hardware expects.
    """

    sets: bytes
    data: bytes
    parts: Tuple[Tuple[int, int], ...]
    size: ImageSize
    begins: bool
    is_needed: bool
    is_common: bool

    @property
    def needed_bytes(self) -> int:
        """How many bytes a decoder gets."""
        parts_bytes = sum(len(START_CODE) + end - start for start, end in self.parts)
        return len(self.sets) + parts_bytes

    def copy_needed(self, target: np.ndarray) -> None:
        """Copy what a decoder gets to `target`, uint8 [needed_bytes]."""
        source, at = np.frombuffer(self.data, np.uint8), len(self.sets)
        target[:at] = np.frombuffer(self.sets, np.uint8)
        for start, end in self.parts:
            target[at : at + len(START_CODE)] = tuple(START_CODE)
            at += len(START_CODE)
            target[at : at + end - start] = source[start:end]
            at += end - start


@dataclass(frozen=True)
class _Found:
    """What an access unit is made of.

    Attributes:
        parts: where the NAL units are that decoders need.
        sequence: the parameter set of its picture.
        start: of its first slice.
        recovery_frames: of its recovery point; None if it has none.
    """

    parts: List[Tuple[int, int]]
    sequence: Sequence
    start: SliceStart
    recovery_frames: Optional[int]


class AccessUnitReader:
    """Reads one stream's access units, in their order."""

    def __init__(self, video: VideoFormat, limits: VideoLimits) -> None:
        """Read what `video` describes, within `limits`."""
        self._codec = video.codec
        self._syntax: Syntax = H264Syntax() if video.codec is VideoCodec.H264 else H265Syntax()
        self._limits = limits
        self._sets = ParameterSets(self._syntax)
        # Read with the first access unit, so that what is wrong with them is a frame's error.
        self._given_sets = video.parameter_sets
        self._sequence: Optional[Sequence] = None
        self._order = PictureOrder()
        # Why the next access unit has to be a key frame, if it has to.
        self._cause: Optional[TandemError] = InvalidInputError(
            "the frame cannot be decoded, because no key frame has come yet"
        )

    def read(self, unit: AccessUnit) -> CheckedUnit:
        """Check the next access unit.

        Raises:
            InvalidInputError: it is malformed or damaged, exceeds a limit, is of a kind that is not
                served, or needs a picture or a parameter set that is not there.
            UnavailableError: it needs a picture that is not there for a reason of that kind.
        """
        is_needed = True
        try:
            found = self._find(unit)
            is_needed = found.start.is_reference
            self._check_sequence(found.sequence)
            return self._follow(unit.data, found, self._is_key(unit, found))
        except _NoPictureError:
            # The others refer to nothing in it; if a picture was meant to be there, they tell.
            raise
        except TandemError as error:
            if is_needed:
                self.lost(error)
            raise

    def lost(self, error: TandemError) -> None:
        """Take note that a picture which may be needed is not there, because of `error`."""
        if self._cause is None:
            kind = UnavailableError if isinstance(error, UnavailableError) else InvalidInputError
            self._cause = kind(
                f"the frame needs one before it, which was not decoded ({error}); frames are "
                "served again from the next key frame on"
            )

    def _find(self, unit: AccessUnit) -> _Found:
        if len(unit.data) > self._limits.unit_bytes:
            raise InvalidInputError(
                f"the access unit has {len(unit.data)} bytes; the limit is "
                f"{self._limits.unit_bytes} (max_access_unit_mebibytes)"
            )
        if self._given_sets:
            given, self._given_sets = self._given_sets, b""
            for start, end in nal_units(given):
                self._role(given[start : min(end, start + MAX_HEAD_BYTES)])
        parts: List[Tuple[int, int]] = []
        slices: List[bytes] = []
        recovery_frames = None
        for start, end in nal_units(unit.data):
            head = unit.data[start : min(end, start + MAX_HEAD_BYTES)]
            role = self._role(head)
            if role is not Role.OTHER:
                parts.append((start, end))
            if role is Role.SLICE:
                slices.append(head[:MAX_SLICE_HEAD_BYTES])
            elif role is Role.RECOVERY_POINT:
                recovery_frames = self._syntax.recovery_frames(head)
        if not slices:
            kind = InvalidInputError if parts else _NoPictureError
            raise kind(f"the access unit holds no picture in {self._codec.value}")
        sequence, picture = self._picture(slices, unit)
        return _Found(parts, sequence, picture, recovery_frames)

    def _role(self, head: bytes) -> Role:
        """What the NAL unit that begins like this is for; parameter sets are taken over."""
        role = self._syntax.role(head)
        if role in PARAMETER_SETS:
            if len(head) == MAX_HEAD_BYTES:
                raise InvalidInputError(
                    f"a parameter set of the video has {MAX_HEAD_BYTES} bytes or more"
                )
            self._sets.add(role, head)
        return role

    def _picture(self, slices: List[bytes], unit: AccessUnit) -> Tuple[Sequence, SliceStart]:
        """The parameter set of the one picture that these slices make, and its start."""
        starts = [self._sets.of_slice(part) for part in slices]
        if starts[0] is None:
            is_key = unit.key_frame or any(map(self._syntax.is_certainly_key, slices))
            if not is_key:
                self._require_picture_before()
            raise InvalidInputError(
                "a parameter set that the access unit needs has not come: it has to be in front of "
                "the key frame, or among the `parameter_sets` of the stream's options"
            )
        if not starts[0][1].is_first:
            raise InvalidInputError("the access unit begins in the midst of a picture")
        if any(each is not None and each[1].is_first for each in starts[1:]):
            raise InvalidInputError("the access unit holds two pictures; each has to be a frame")
        return starts[0]

    def _check_sequence(self, sequence: Sequence) -> None:
        """Refuse what is not served, or takes too much memory.

        Raises:
            InvalidInputError: in a sentence that says why.
        """
        parameters, limits = sequence.parameters, self._limits
        parameters.check_served()
        check_size(parameters.size, limits.pixels, limits.pictures)
        check_size(parameters.coded_size, limits.pixels + _MOST_CROPPED, limits.pictures)
        if parameters.decoder_bytes > limits.decoder_bytes:
            raise InvalidInputError(
                f"decoding the video takes {parameters.decoder_bytes} bytes for the "
                f"{parameters.kept_pictures} pictures that it has a decoder keep; the limit is "
                f"{limits.decoder_bytes} (max_video_mebibytes)"
            )

    def _is_key(self, unit: AccessUnit, found: _Found) -> bool:
        """Whether decoding can start here; refuses a frame that wrongly says so."""
        start, recovery_frames = found.start, found.recovery_frames
        if start.kind is not PictureKind.OTHER or recovery_frames == 0:
            return True
        if not unit.key_frame:
            return False
        if recovery_frames:
            raise InvalidInputError(RENEWED_BIT_BY_BIT)
        # Some encoders mark nothing in the video.
        if start.is_intra:
            return True
        raise InvalidInputError(
            "the frame is said to be a key frame, but its picture refers to earlier ones"
        )

    def _follow(self, data: bytes, found: _Found, is_key: bool) -> CheckedUnit:
        """Check that a picture follows the one before, or begins anew."""
        sequence, start = found.sequence, found.start
        is_same = self._sequence is not None and self._sequence.unit == sequence.unit
        begins = is_key and (self._cause is not None or not is_same)
        if begins:
            self._order = PictureOrder()
        else:
            self._require_picture_before()
            if not is_same:
                raise InvalidInputError("the video's parameter sets change without a key frame")
        try:
            self._order.follow(start, sequence.parameters)
        except OutOfOrderError:
            raise InvalidInputError(B_FRAMES) from None
        self._sequence, self._cause = sequence, None
        sets = self._sets.byte_stream() if begins else b""
        parameters = sequence.parameters
        return CheckedUnit(
            sets=sets,
            data=data,
            parts=tuple(found.parts),
            size=parameters.size,
            begins=begins,
            is_needed=start.is_reference,
            is_common=parameters.bit_depth == 8 and parameters.chroma_format == 1,
        )

    def _require_picture_before(self) -> None:
        """Raise if the picture before is not there.

        Raises:
            InvalidInputError: it is not, and the caller is at fault.
            UnavailableError: it is not, and this service is.
        """
        if self._cause is not None:
            raise type(self._cause)(str(self._cause))
