"""What a stage or the orchestrator answers to a frame: detections and timings, on the wire."""

from __future__ import annotations

from operator import attrgetter
from typing import Iterable, Mapping, Tuple

from common.domain.detections import Box, Detection, DetectionOptions, FrameTiming, StageTiming
from common.domain.errors import InternalError, InvalidInputError
from common.domain.placement import Stage
from common.wire.errors import ERROR_CODES
from common.wire.frames import codec_to_wire, known_codec_from_wire
from protos.tandem.v1 import detection_pb2, detector_pb2, stage_pb2


def detections_to_wire(
    detections: Iterable[Detection], *, names: bool = True
) -> detection_pb2.Detections:
    """All detections of a frame, in the order given; with the categories' `names`, or without."""
    return detection_pb2.Detections(
        detections=[
            detection_pb2.Detection(
                category_id=detection.category_id,
                category_name=detection.category_name if names else "",
                score=detection.score,
                track_id=detection.track_id,
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


def add_category_names(detections: detection_pb2.Detections, names: Mapping[int, str]) -> None:
    """Add the names that an answer leaves out; `names` are by the categories' ids."""
    for detection in detections.detections:
        if not detection.category_name:
            detection.category_name = names.get(detection.category_id, "")


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
            track_id=detection.track_id if detection.HasField("track_id") else None,
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
    """One stage's timing as it travels."""
    wire = detection_pb2.StageTiming()
    write_stage_timing(timing, wire)
    return wire


def write_stage_timing(timing: StageTiming, wire: detection_pb2.StageTiming) -> None:
    """Write one stage's timing over another; the fields have the same names on both sides."""
    wire.Clear()
    # Part of its message even if it tells nothing.
    wire.SetInParent()
    for name, value in vars(timing).items():
        if name == "codec":
            wire.codec = codec_to_wire(value)
        # Of the power, zero is a measurement; all else is zero where it is not written.
        elif value or (name == "power_watts" and value is not None):
            setattr(wire, name, value)


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


def stage_timing_from_wire(wire: detection_pb2.StageTiming, node: str = "") -> StageTiming:
    """One stage's timing; of this node, or of the one that it names itself."""
    # One by one, since every frame has two of them.
    return StageTiming(
        node=node or wire.node,
        decode_seconds=wire.decode_seconds,
        preprocess_seconds=wire.preprocess_seconds,
        queue_seconds=wire.queue_seconds,
        execute_seconds=wire.execute_seconds,
        encode_seconds=wire.encode_seconds,
        postprocess_seconds=wire.postprocess_seconds,
        held_seconds=wire.held_seconds,
        transfer_seconds=wire.transfer_seconds,
        request_bytes=wire.request_bytes,
        received_at_seconds=wire.received_at_seconds,
        execute_after_seconds=wire.execute_after_seconds,
        power_watts=wire.power_watts if wire.HasField("power_watts") else None,
        codec=known_codec_from_wire(wire.codec),
    )


MAX_NAME_CHARACTERS = 64
"""Of a node or a category."""

# The most queries of any DETR in use is 900, and each gives one detection.
_MAX_DETECTIONS = 10_000
_MAX_SECONDS = 3600.0
_MAX_CLOCK_SECONDS = 1e11
_MAX_BYTES = 1 << 40
_MAX_WATTS = 1e6
_DURATIONS = tuple(
    name
    for name in detection_pb2.StageTiming.DESCRIPTOR.fields_by_name
    if name.endswith("_seconds") and name != "received_at_seconds"
)
_durations_of = attrgetter(*_DURATIONS)


def checked_result(
    result: stage_pb2.FrameResult, peer: str, served_by: Iterable[Stage]
) -> stage_pb2.FrameResult:
    """The answer itself.

    Args:
        result: as it was received.
        peer: who answered, for the message.
        served_by: the stages that a frame with detections has been through.

    Raises:
        InternalError: it holds neither detections nor an error, lacks a stage's timing, or has
            numbers, names or lists that no stage would send.
    """
    fault = _result_fault(result, served_by) or _timing_fault(result.timing)
    if fault:
        raise InternalError(f"{peer} answered frame {result.frame_id} wrongly: {fault}")
    return result


def _result_fault(result: stage_pb2.FrameResult, served_by: Iterable[Stage]) -> str:
    kind = result.WhichOneof("result")
    if kind is None:
        return "with neither detections nor an error"
    if kind == "error":
        code = result.error.code
        return "" if code in ERROR_CODES else f"with an error of the unknown code {code}"
    detections = result.detections.detections
    if len(detections) > _MAX_DETECTIONS:
        return f"with {len(detections)} detections"
    for each in detections:
        box = each.box
        # Finite as long as their sum is: a float's sum overflows no double.
        if not abs(each.score + box.x_min + box.y_min + box.x_max + box.y_max) < float("inf"):
            return "with numbers that are not finite"
        if len(each.category_name) > MAX_NAME_CHARACTERS:
            return f"with a category name of {len(each.category_name)} characters"
    timing = result.timing
    for stage in served_by:
        if not timing.HasField(stage.value):
            return f"without the {stage.value}'s timing"
    return ""


def _timing_fault(timing: detection_pb2.Timing) -> str:
    for stage in (timing.backbone, timing.transformer):
        if len(stage.node) > MAX_NAME_CHARACTERS:
            return f"a node name of {len(stage.node)} characters"
        durations = _durations_of(stage)
        # Comparisons with NaN are false, and a sum with one is NaN.
        if not (min(durations) >= 0.0 and sum(durations) <= _MAX_SECONDS):
            for name, seconds in zip(_DURATIONS, durations):
                if not 0.0 <= seconds <= _MAX_SECONDS:
                    return f"{name} is {seconds}"
        if not 0.0 <= stage.received_at_seconds <= _MAX_CLOCK_SECONDS:
            return f"received_at_seconds is {stage.received_at_seconds}"
        if not -_MAX_WATTS <= stage.power_watts <= _MAX_WATTS:
            return f"power_watts is {stage.power_watts}"
        if stage.request_bytes > _MAX_BYTES:
            return f"request_bytes is {stage.request_bytes}"
    return ""
