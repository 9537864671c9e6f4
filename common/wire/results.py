"""Whether a stage's answer to a frame makes sense; what does not is the fault of who answered."""

from __future__ import annotations

from typing import Iterable

from common.domain.errors import InternalError
from common.domain.placement import Stage
from common.wire.status import ERROR_CODES
from protos.tandem.v1 import detection_pb2, stage_pb2

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
    if len(result.detections.detections) > _MAX_DETECTIONS:
        return f"with {len(result.detections.detections)} detections"
    for each in result.detections.detections:
        box = each.box
        # Finite as long as their sum is: a float's sum overflows no double.
        if not abs(each.score + box.x_min + box.y_min + box.x_max + box.y_max) < float("inf"):
            return "with numbers that are not finite"
        if len(each.category_name) > MAX_NAME_CHARACTERS:
            return f"with a category name of {len(each.category_name)} characters"
    for stage in served_by:
        if not result.timing.HasField(stage.value):
            return f"without the {stage.value}'s timing"
    return ""


def _timing_fault(timing: detection_pb2.Timing) -> str:
    for stage in (timing.backbone, timing.transformer):
        if len(stage.node) > MAX_NAME_CHARACTERS:
            return f"a node name of {len(stage.node)} characters"
        for name in _DURATIONS:
            # Comparisons with NaN are false.
            if not 0.0 <= getattr(stage, name) <= _MAX_SECONDS:
                return f"{name} is {getattr(stage, name)}"
        if not 0.0 <= stage.received_at_seconds <= _MAX_CLOCK_SECONDS:
            return f"received_at_seconds is {stage.received_at_seconds}"
        if not -_MAX_WATTS <= stage.power_watts <= _MAX_WATTS:
            return f"power_watts is {stage.power_watts}"
        if stage.request_bytes > _MAX_BYTES:
            return f"request_bytes is {stage.request_bytes}"
    return ""
