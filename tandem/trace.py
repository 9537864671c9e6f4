"""A run as a trace for Perfetto or Chrome (`ui.perfetto.dev`): each frame's steps on each node.

This is a file of what the answers told; for spans that go to a collector while a system runs, see
`common.telemetry.tracing`.

The format is Chrome's JSON trace event format: processes are the stages of the nodes, threads are
lanes of steps that can run side by side, times are microseconds. Every node's times are by its
own clock; on one machine, or with synchronised clocks, they line up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.domain.detections import StageTiming
from common.files import replace_text
from common.telemetry.steps import steps_of
from tandem.results import FrameResult

ORCHESTRATOR = "orchestrator"
ENGINE_LANE = "engine"
# Of each step, the lane of its stage.
_LANES = {
    "queue": "waiting",
    "preprocess": "input",
    "decode": "input",
    "execute": ENGINE_LANE,
    "encode": "output",
    "postprocess": "output",
}


@dataclass(frozen=True)
class Span:
    """Something that a frame went through; seconds since 1970."""

    process: str
    lane: str
    name: str
    frame_id: int
    start: float
    end: float


def write_trace(path: Path, results: Iterable[FrameResult]) -> None:
    """Write a trace of these frames."""
    spans = sorted((span for one in results for span in spans_of(one)), key=lambda one: one.start)
    trace = {"traceEvents": list(_events(spans)), "displayTimeUnit": "ms"}
    replace_text(path, json.dumps(trace))


def spans_of(result: FrameResult) -> Iterator[Span]:
    """All that is known of one frame: its way through the orchestrator and through each stage."""
    timing = result.timing
    began = timing.received_at_seconds
    yield Span(
        ORCHESTRATOR, "frames", "in flight", result.frame_id, began, began + timing.total_seconds
    )
    for name, stage in (("backbone", timing.backbone), ("transformer", timing.transformer)):
        if stage is not None:
            yield from _stage_spans(f"{name} on {stage.node}", stage, result.frame_id)


def _stage_spans(process: str, stage: StageTiming, frame_id: int) -> Iterator[Span]:
    for step in steps_of(stage):
        yield Span(process, _LANES[step.name], step.name, frame_id, step.start, step.end)


def _events(spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """Complete events, and the names of their processes and threads."""
    origin = min((span.start for span in spans), default=0.0)
    processes: dict[str, int] = {}
    threads: dict[tuple[str, str], int] = {}
    for span, lane in zip(spans, _lanes(spans), strict=True):
        if span.process not in processes:
            processes[span.process] = len(processes) + 1
            yield _named("process_name", processes[span.process], 0, span.process)
        process = processes[span.process]
        if (span.process, lane) not in threads:
            threads[span.process, lane] = len(threads) + 1
            yield _named("thread_name", process, threads[span.process, lane], lane)
        yield {
            "name": f"{span.name} {span.frame_id}",
            "cat": span.name,
            "ph": "X",
            "ts": 1e6 * (span.start - origin),
            "dur": 1e6 * (span.end - span.start),
            "pid": process,
            "tid": threads[span.process, lane],
            "args": {"frame_id": span.frame_id},
        }


def _lanes(spans: Iterable[Span]) -> Iterator[str]:
    """A lane for each span, numbered where spans of the same kind overlap: a thread shows one."""
    ends: dict[tuple[str, str], list[float]] = {}
    for span in spans:
        busy_until = ends.setdefault((span.process, span.lane), [])
        free = next((row for row, end in enumerate(busy_until) if end <= span.start), None)
        if free is None:
            free = len(busy_until)
            busy_until.append(span.end)
        busy_until[free] = span.end
        yield span.lane if free == 0 else f"{span.lane} {free + 1}"


def _named(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}}
