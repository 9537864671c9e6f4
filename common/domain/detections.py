"""What a client asks of its stream, and what it is told about each frame."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional

from common.domain.codec import Codec
from common.domain.models import DEFAULT_MODEL
from common.domain.placement import NodePair
from common.domain.video import VideoFormat

DEFAULT_SCORE_THRESHOLD = 0.7
"""Detections below this score are left out unless a client asks for more of them, or for fewer."""


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in pixels of the frame, origin at the top left, `x_min <= x_max`."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True)
class Detection:
    """One object.

    Attributes:
        category_id: COCO id of the category.
        category_name: its name.
        score: probability of the category, 0 to 1.
        box: where it is.
        track_id: names one object over the frames of a stream, from 1; None: tracks were not asked
            for, or the object is not followed.
    """

    category_id: int
    category_name: str
    score: float
    box: Box
    track_id: Optional[int] = None


@dataclass(frozen=True)
class DetectionOptions:
    """What a client wants to be told.

    Attributes:
        score_threshold: detections below this score are left out, 0 to 1.
        max_detections: at most this many a frame, the highest scores first; 0 means all.
    """

    score_threshold: float = DEFAULT_SCORE_THRESHOLD
    max_detections: int = 0


class OverloadPolicy(str, Enum):
    """What happens when frames come faster than they can be served."""

    # Lossless: the server stops reading, and flow control pushes back on the client.
    BLOCK = "block"
    # Live camera: the newest frame wins; a waiting frame that it replaces is answered `dropped`.
    DROP_OLDEST = "drop_oldest"


@dataclass(frozen=True)
class StreamOptions(DetectionOptions):
    """The opening message of a client's stream.

    Attributes:
        requested_pair: nodes that run the stages; None leaves the choice to the orchestrator.
        overload: what happens when frames come faster than they can be served.
        codec: how features travel between the stages; None is the bundle's default, or the latent
            rate that the orchestrator chooses.
        max_link_bits_per_second: what the stream's features may take of the link between the
            stages, on average; 0: no limit. Only where `codec` is None.
        video: what the frames are access units of; None: they are pictures.
        track: whether detections carry a `track_id`.
        model: by which model the frames are served; `DEFAULT_MODEL`: that of the stages' `bundle`.
    """

    requested_pair: Optional[NodePair] = None
    overload: OverloadPolicy = OverloadPolicy.BLOCK
    codec: Optional[Codec] = None
    max_link_bits_per_second: int = 0
    video: Optional[VideoFormat] = None
    track: bool = False
    model: str = DEFAULT_MODEL


@dataclass
class StageTiming:
    """One stage's part, by its own clock; see `StageTiming` in detection.proto for each field.

    The stage fills it in as the frame goes; nobody changes it afterwards.
    """

    node: str
    decode_seconds: float = 0.0
    preprocess_seconds: float = 0.0
    queue_seconds: float = 0.0
    execute_seconds: float = 0.0
    encode_seconds: float = 0.0
    postprocess_seconds: float = 0.0
    held_seconds: float = 0.0
    transfer_seconds: float = 0.0
    request_bytes: int = 0
    received_at_seconds: float = 0.0
    execute_after_seconds: float = 0.0
    power_watts: Optional[float] = None
    codec: Optional[Codec] = None


@dataclass(frozen=True)
class FrameTiming:
    """A whole frame's; a stage that the frame did not reach is None."""

    backbone: Optional[StageTiming]
    transformer: Optional[StageTiming]
    total_seconds: float
    received_at_seconds: float = 0.0
