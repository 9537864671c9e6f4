"""What traces have to know of gRPC: a call's metadata, and what a frame was answered."""

from __future__ import annotations

from typing import Any, List, Union

import grpc

from common.telemetry.tracing import MetadataItem, Span
from protos.tandem.v1 import detector_pb2, stage_pb2

_NAMES = {each.value[0]: each.name for each in grpc.StatusCode}


def metadata_of(context: Any) -> List[MetadataItem]:
    """The metadata that a call came with; `context` is a `grpc.aio.ServicerContext`."""
    return [(name, value) for name, value in context.invocation_metadata() or ()]


def tell_answer(
    span: Span, answer: Union[stage_pb2.FrameResult, detector_pb2.DetectResponse]
) -> None:
    """Note in a frame's span what the frame was answered."""
    if not span.trace_id:
        return
    outcome = answer.WhichOneof("result") or "error"
    if outcome == "error":
        name = _NAMES.get(answer.error.code, str(answer.error.code))
        span.fail(name, answer.error.message)
        span.tell(outcome=outcome)
    else:
        span.tell(outcome=outcome, detections=len(answer.detections.detections))
