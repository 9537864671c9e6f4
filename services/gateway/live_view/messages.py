"""What the page is told: domain types as JSON, and frames in a binary form.

A binary message is the length of its head (four bytes, the most significant first), the head
(JSON), and the picture as it came; of video, the access units up to it that the page has not had.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from common.domain.frames import EncodedImage
from common.domain.placement import NodePair
from common.domain.status import LinkStatus, PlacementStatus, StageStatus, SystemStatus
from common.domain.video import AccessUnit
from common.vision.jpeg_markers import JPEG_MAGIC
from services.gateway.cameras.feed import CameraFrame, CameraState
from services.gateway.live_view.codec_strings import codec_string
from services.gateway.live_view.traffic import LinkTraffic

_HEAD_LENGTH_BYTES = 4


def text_of(message: dict[str, Any]) -> str:
    """Compact JSON."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def frame_message(frames: Sequence[CameraFrame]) -> bytes:
    """A frame and its detections, for the page to draw; boxes are in the frame's pixels.

    Args:
        frames: one picture, or access units of which the last is the one to be shown; as
            `FrameQueue.take` gives them.
    """
    frame = frames[-1]
    result = frame.result
    form, contents = _contents(frames)
    head = {
        "camera": frame.camera,
        "number": frame.number,
        **form,
        "latency": round(frame.latency_seconds, 4),
        "error": "" if result.error is None else str(result.error),
        "boxes": [
            [
                *(round(side, 1) for side in (box.x_min, box.y_min, box.x_max, box.y_max)),
                detection.category_name,
                round(detection.score, 3),
            ]
            for detection in result.detections
            for box in [detection.box]
        ],
    }
    encoded = text_of(head).encode()
    return b"".join((len(encoded).to_bytes(_HEAD_LENGTH_BYTES, "big"), encoded, *contents))


def _contents(frames: Sequence[CameraFrame]) -> tuple[dict[str, Any], list[bytes]]:
    """What the head tells of the form of frames, and their bytes."""
    frame = frames[-1]
    if frame.video is None:
        data = frame.picture.data
        return {"type": "image/jpeg" if data.startswith(JPEG_MAGIC) else "image/png"}, [data]
    codec = frame.video.codec
    # Nothing is to be seen of what is damaged.
    units = [] if frame.is_damaged else [each.picture for each in frames]
    told = [[len(unit.data), _is_key(unit)] for unit in units]
    first = units[0].data if units and _is_key(units[0]) else b""
    form = {
        "type": f"video/{codec.value}",
        "codec": codec_string(codec, first) if first else "",
        "units": told,
    }
    return form, [unit.data for unit in units]


def _is_key(picture: EncodedImage | AccessUnit) -> bool:
    return isinstance(picture, AccessUnit) and picture.key_frame


def state_message(
    cameras: Sequence[CameraState],
    system: SystemStatus | None,
    traffic: Sequence[LinkTraffic],
    problem: str,
    signs_in: bool,
) -> str:
    """How all is now.

    Args:
        cameras: each, in order.
        system: as the orchestrator tells it; None if it does not.
        traffic: what crosses each link.
        problem: why the orchestrator tells nothing; empty if it does.
        signs_in: whether a token is of use to who looks.
    """
    return text_of(
        {
            "kind": "state",
            "cameras": [_camera(camera) for camera in cameras],
            "system": None if system is None else _system(system),
            "traffic": [vars(link) for link in traffic],
            "problem": problem,
            "signs_in": signs_in,
        }
    )


def _camera(camera: CameraState) -> dict[str, Any]:
    return {**vars(camera), "condition": camera.condition.value}


def _system(system: SystemStatus) -> dict[str, Any]:
    return {
        "setting": _name(system.operator_pair) or "auto",
        "active": _name(system.active_pair),
        "objective": system.objective,
        "explanation": system.explanation,
        "warnings": system.warnings,
        "draining": system.draining,
        "stages": [_stage(stage) for stage in system.stages],
        "placements": [_placement(placement) for placement in system.placements],
        "links": [_link(link) for link in system.links],
    }


def _stage(stage: StageStatus) -> dict[str, Any]:
    estimate = stage.estimate
    return {
        "node": stage.node,
        "stage": stage.stage.value,
        "replica": stage.replica,
        "healthy": stage.healthy,
        "reason": stage.reason,
        "frames_in_flight": stage.frames_in_flight,
        "compute_seconds": None if estimate is None else estimate.compute_seconds,
    }


def _placement(placement: PlacementStatus) -> dict[str, Any]:
    predicted = placement.prediction
    return {
        "name": placement.node_pair.name,
        "backbone": placement.node_pair.backbone,
        "transformer": placement.node_pair.transformer,
        "available": placement.available,
        "reason": placement.reason,
        "frames_per_second": placement.frames_per_second,
        "prediction": None
        if predicted is None
        else {
            "frames_per_second": predicted.frames_per_second,
            "latency_seconds": predicted.latency_seconds,
            "bytes_per_frame": predicted.bytes_per_frame,
            "bottleneck": predicted.bottleneck,
        },
    }


def _link(link: LinkStatus) -> dict[str, Any]:
    return {
        "source": link.source,
        "destination": link.destination,
        "bytes_per_second": link.bytes_per_second,
    }


def _name(pair: NodePair | None) -> str | None:
    return None if pair is None else pair.name
