"""The client of one run, in a process of its own, on the cameras' core and network.

`python -m experiments.placements.streaming ADDRESS PLAN` streams the plan's frames twice: first as
many in flight as the server takes, which tells the frames a second; then one at a time, which
tells the times of a single frame, free of queues. It prints one line of JSON a frame, those
that are not measured included.
"""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

from common.domain.detections import StageTiming
from common.domain.errors import ServiceError, TandemError
from common.domain.frames import EncodedImage
from common.domain.placement import Placement
from experiments.placements.summary import components
from tandem.client import DetectorClient
from tandem.results import FrameResult

# More than any window that a server finds for itself.
MOST_IN_FLIGHT = 33
_STEPS = (
    *("decode", "preprocess", "queue", "execute", "encode", "postprocess"),
    *("transfer", "held"),
)


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        name: `pipelined` or `single`.
        warm_up: frames answered before.
        frames: measured.
        cool_down: frames answered after. Without them the pipeline would run empty while it is
            measured, and its last frames find the engines idle.
        in_flight: sent and not yet answered.
    """

    name: str
    warm_up: int
    frames: int
    cool_down: int
    in_flight: int

    @property
    def total(self) -> int:
        """All frames that are sent."""
        return self.warm_up + self.frames + self.cool_down


@dataclass(frozen=True)
class StreamPlan:
    """What to send.

    Attributes:
        files: text file with a path a line, sent in turn, over and over.
        placement: its value.
        codec: its value; None leaves it to the server.
        cameras: node that this process and the orchestrator run on.
        phases: one after another.
    """

    files: str
    placement: str
    codec: str | None
    cameras: str
    phases: tuple[Phase, ...]

    @classmethod
    def parse(cls, text: str) -> StreamPlan:
        """Read the JSON of `asdict`."""
        told = json.loads(text)
        phases = tuple(Phase(**phase) for phase in told.pop("phases"))
        return cls(**told, phases=phases)


@dataclass(frozen=True)
class FrameRow:
    """One frame of a run, as in `frames.csv`; times in seconds.

    Attributes:
        phase: `pipelined` or `single`.
        measured: not of the warm-up or the cool-down, which files leave out.
        index: in its phase; the first that is measured is 0.
        file: that was sent.
        answered_at: by this machine's monotonic clock.
        latency: in the orchestrator, from reading the frame to its answer.
        round_trip: in the client, from handing the frame over to its answer.
        edge: see `Components`; so are the seven that follow.
        frame_bytes: of the picture.
        feature_bytes: of the features as the transformer got them.
        backbone: each step of the backbone by its name.
        transformer: each step of the transformer.
    """

    phase: str
    measured: bool
    index: int
    file: str
    answered_at: float
    latency: float
    round_trip: float
    edge: float
    link: float
    workstation: float
    queue: float
    other: float
    edge_execute: float
    workstation_execute: float
    link_bytes: int
    frame_bytes: int
    feature_bytes: int
    backbone: dict[str, float]
    transformer: dict[str, float]


async def stream(address: str, plan: StreamPlan) -> None:
    """Send all phases and print the rows.

    Raises:
        ServiceError: a frame failed: an experiment on failures says nothing.
        TandemError: the server was lost.
    """
    paths = [Path(line) for line in Path(plan.files).read_text(encoding="utf-8").splitlines()]
    async with DetectorClient(address, reconnect_seconds=0) as client:
        for phase in plan.phases:
            await _one_phase(client, paths, plan, phase)


async def _one_phase(
    client: DetectorClient, paths: Sequence[Path], plan: StreamPlan, phase: Phase
) -> None:
    names = itertools.cycle(path.name for path in paths)
    results = client.detect(
        _images(paths, phase.total),
        placement=plan.placement,
        codec=plan.codec,
        max_in_flight=phase.in_flight,
    )
    index = -phase.warm_up
    async for result in results:
        answered_at = time.monotonic()
        if result.error is not None:
            raise ServiceError(f"{plan.placement}: a frame failed: {result.error}")
        row = frame_row(
            result,
            plan,
            phase=phase,
            index=index,
            file=next(names),
            answered_at=answered_at,
        )
        sys.stdout.write(json.dumps(asdict(row)) + "\n")
        sys.stdout.flush()
        index += 1


def _images(paths: Sequence[Path], count: int) -> Iterator[EncodedImage]:
    """Read as they are taken: a thousand pictures need not be held."""
    for path in itertools.islice(itertools.cycle(paths), count):
        yield EncodedImage(path.read_bytes())


def frame_row(
    result: FrameResult,
    plan: StreamPlan,
    *,
    phase: Phase,
    index: int,
    file: str,
    answered_at: float,
) -> FrameRow:
    """One frame's answer as a row."""
    timing = result.timing
    parts = components(Placement(plan.placement), plan.cameras, timing)
    return FrameRow(
        phase=phase.name,
        measured=0 <= index < phase.frames,
        index=index,
        file=file,
        answered_at=answered_at,
        latency=timing.total_seconds,
        round_trip=result.round_trip_seconds,
        **asdict(parts),
        frame_bytes=timing.backbone.request_bytes if timing.backbone else 0,
        feature_bytes=timing.transformer.request_bytes if timing.transformer else 0,
        backbone=_steps(timing.backbone),
        transformer=_steps(timing.transformer),
    )


def write_frames(rows: Sequence[FrameRow], file: TextIO) -> None:
    """Write `frames.csv`: times with their unit in the column's name, measured frames only."""
    writer: Any = None
    for row in rows:
        if not row.measured:
            continue
        flat = _flat(row)
        if writer is None:
            writer = csv.DictWriter(file, list(flat))
            writer.writeheader()
        writer.writerow(flat)


def _flat(row: FrameRow) -> dict[str, object]:
    flat: dict[str, object] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if field.name == "measured":
            continue
        if isinstance(value, dict):
            flat.update({f"{field.name}_{step}_seconds": value[step] for step in _STEPS})
        elif isinstance(value, float):
            flat[f"{field.name}_seconds"] = value
        else:
            flat[field.name] = value
    return flat


def _steps(stage: StageTiming | None) -> dict[str, float]:
    return {step: getattr(stage, f"{step}_seconds") if stage else 0.0 for step in _STEPS}


def main() -> None:
    """Stream and print."""
    address, plan = sys.argv[1:]
    try:
        asyncio.run(stream(address, StreamPlan.parse(plan)))
    except TandemError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
