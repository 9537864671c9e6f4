"""What the frames of a stream are video of, on the wire."""

from __future__ import annotations

from typing import Dict, Optional, Union

from common.domain.errors import InvalidInputError
from common.domain.video import VideoCodec, VideoFormat
from protos.tandem.v1 import detector_pb2, stage_pb2

MAX_PARAMETER_SETS_BYTES = 64 << 10
"""Of a stream's `VideoFormat`; those of honest video have some hundred bytes."""

_CODEC_TO_WIRE = {
    VideoCodec.H264: detector_pb2.VIDEO_CODEC_H264,
    VideoCodec.H265: detector_pb2.VIDEO_CODEC_H265,
}
_CODEC_FROM_WIRE: Dict[int, VideoCodec] = {value: codec for codec, value in _CODEC_TO_WIRE.items()}


def video_to_wire(video: Optional[VideoFormat]) -> Optional[detector_pb2.VideoFormat]:
    """None is an absent message: the frames are pictures."""
    if video is None:
        return None
    return detector_pb2.VideoFormat(
        codec=_CODEC_TO_WIRE[video.codec], parameter_sets=video.parameter_sets
    )


def optional_video_from_wire(
    opening: Union[detector_pb2.StreamOptions, stage_pb2.BackboneOpen],
) -> Optional[VideoFormat]:
    """What a stream's opening says of its video; None: its frames are pictures.

    The content of the parameter sets is checked where they are decoded.

    Raises:
        InvalidInputError: the codec is unknown or missing, or the parameter sets are too large.
    """
    if not opening.HasField("video"):
        return None
    codec, parameter_sets = opening.video.codec, opening.video.parameter_sets
    if codec == detector_pb2.VIDEO_CODEC_UNSPECIFIED:
        raise InvalidInputError("the stream's `video` names no codec")
    if codec not in _CODEC_FROM_WIRE:
        raise InvalidInputError(f"unknown video codec {codec}")
    if len(parameter_sets) > MAX_PARAMETER_SETS_BYTES:
        raise InvalidInputError(
            f"the stream's parameter sets have {len(parameter_sets)} bytes; "
            f"the limit is {MAX_PARAMETER_SETS_BYTES}"
        )
    return VideoFormat(_CODEC_FROM_WIRE[codec], parameter_sets)
