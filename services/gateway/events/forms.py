"""Events and frames in JSON; where Frigate tells the same, under its names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from common.domain.detections import Box
from services.gateway.cameras.feed import CameraFrame
from services.gateway.events.objects import ObjectEvent, SeenObject, label_of

_NOT_PLAIN = re.compile(r"[^a-z0-9]+")


def plain(name: str) -> str:
    """A name for topics and ids: small letters, digits and `_`; never empty."""
    return _NOT_PLAIN.sub("_", name.lower()).strip("_") or "_"


def event_json(event: ObjectEvent) -> dict[str, Any]:
    """An event with the object before and after it, as Frigate's topic `events` has it."""
    return {
        "type": event.kind.value,
        "before": _object_json(event.camera, event.before),
        "after": _object_json(event.camera, event.after),
    }


def frame_json(frame: CameraFrame) -> dict[str, Any]:
    """What was found in one frame."""
    result = frame.result
    return {
        "camera": frame.camera,
        "frame": frame.number,
        "frame_time": frame.read_at_seconds,
        "latency_seconds": round(frame.latency_seconds, 4),
        "placement": result.node_pair.name if result.node_pair else None,
        "error": str(result.error) if result.error else None,
        "objects": [
            {
                "label": label_of(each),
                "score": round(each.score, 4),
                "box": _corners(each.box),
                "track_id": each.track_id,
            }
            for each in result.detections
        ],
    }


def counts_json(camera: str, counts: Mapping[str, int], at_seconds: float) -> dict[str, Any]:
    """How many objects of each category are before a camera."""
    return {"camera": camera, "time": at_seconds, "counts": dict(counts)}


def _object_json(camera: str, seen: SeenObject) -> dict[str, Any]:
    box = seen.box
    ended = seen.ended_at_seconds
    return {
        # Numbers begin anew when the gateway does; with the time, no two objects share a name.
        "id": f"{seen.started_at_seconds:.6f}-{plain(camera)}-{seen.track_id}",
        "camera": camera,
        "track_id": seen.track_id,
        "label": seen.label,
        "frame_time": seen.seen_at_seconds,
        "start_time": seen.started_at_seconds,
        "end_time": ended,
        "seconds": round((ended or seen.seen_at_seconds) - seen.started_at_seconds, 3),
        "score": round(seen.score, 4),
        "top_score": round(seen.top_score, 4),
        "box": _corners(box),
        "area": round((box.x_max - box.x_min) * (box.y_max - box.y_min)),
        "active": ended is None,
        "false_positive": False,
        "has_snapshot": False,
        "has_clip": False,
        "current_zones": [],
        "entered_zones": [],
    }


def _corners(box: Box) -> list[int]:
    """Left, top, right, bottom; pixels of the frame."""
    return [round(box.x_min), round(box.y_min), round(box.x_max), round(box.y_max)]
