"""Detections and timings on the wire."""

from __future__ import annotations

from typing import Iterable, Tuple

from common.domain.detections import Box, Detection, DetectionOptions
from common.domain.errors import InvalidInputError
from common.domain.timing import FrameTiming, StageTiming
from protos.tandem.v1 import detection_pb2, detector_pb2, stage_pb2


def detections_to_wire(detections: Iterable[Detection]) -> detection_pb2.Detections:
    """All detections of a frame, in the order given."""
    return detection_pb2.Detections(
        detections=[
            detection_pb2.Detection(
                category_id=detection.category_id,
                category_name=detection.category_name,
                score=detection.score,
                box=detection_pb2.Box(
                    x_min=detection.box.x_min,
                    y_min=detection.box.y_min,
                    x_max=detection.box.x_max,
                    y_max=detection.box.y_max,
                ),
            )
            for detection in detections
        ]
    )


def detections_from_wire(wire: detection_pb2.Detections) -> Tuple[Detection, ...]:
    """All detections of a frame, in the order received."""
    return tuple(
        Detection(
            category_id=detection.category_id,
            category_name=detection.category_name,
            score=detection.score,
            box=Box(
                detection.box.x_min, detection.box.y_min, detection.box.x_max, detection.box.y_max
            ),
        )
        for detection in wire.detections
    )


def options_from_wire(context: stage_pb2.StreamContext) -> DetectionOptions:
    """What a stream wants to be told.

    Raises:
        InvalidInputError: the threshold is not within 0 to 1.
    """
    default = DetectionOptions()
    threshold = default.score_threshold
    if context.HasField("score_threshold"):
        threshold = checked_threshold(context.score_threshold)
    return DetectionOptions(threshold, context.max_detections)


def checked_threshold(value: float) -> float:
    """The threshold itself.

    Raises:
        InvalidInputError: it is not within 0 to 1.
    """
    if not 0.0 <= value <= 1.0:
        raise InvalidInputError(f"score_threshold {value} is not within 0 to 1")
    return value


def stage_timing_to_wire(timing: StageTiming) -> detection_pb2.StageTiming:
    """One stage's timing; the fields have the same names on both sides."""
    return detection_pb2.StageTiming(**vars(timing))


def timing_from_wire(response: detector_pb2.DetectResponse) -> FrameTiming:
    """The timing of a client's answer."""
    timing = response.timing
    return FrameTiming(
        backbone=stage_timing_from_wire(timing.backbone) if timing.HasField("backbone") else None,
        transformer=(
            stage_timing_from_wire(timing.transformer) if timing.HasField("transformer") else None
        ),
        total_seconds=timing.total_seconds,
        received_at_seconds=timing.received_at_seconds,
    )


def stage_timing_from_wire(wire: detection_pb2.StageTiming) -> StageTiming:
    """One stage's timing."""
    told = {name: getattr(wire, name) for name in StageTiming.__dataclass_fields__}
    if not wire.HasField("power_watts"):
        told["power_watts"] = None
    return StageTiming(**told)
