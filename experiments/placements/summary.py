"""From the raw rows of the runs to medians with their spread."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.domain.detections import FrameTiming, StageTiming
from common.domain.placement import EDGE, WORKSTATION, Placement, Stage
from common.files import replacing
from experiments.placements.cases import PIPELINED, SINGLE, Case, Run, link_name
from experiments.placements.config import Config
from experiments.placements.samples import node_memory_bytes, node_watts, read_samples
from tandem.bench import percentile

_OWN_STEPS = ("decode", "preprocess", "execute", "encode", "postprocess")
FRAMES_FILE = "frames.csv"
SAMPLES_FILE = "samples.csv"
_COMPONENTS = (
    *("edge", "link", "workstation", "queue", "other"),
    *("edge_execute", "workstation_execute"),
)
METRICS = (
    *("fps", "latency_p50_ms", "latency_p95_ms", "bytes_per_frame"),
    *("single_latency_ms", *(f"{name}_ms" for name in _COMPONENTS)),
    *("edge_memory_bytes", "workstation_memory_bytes", "edge_watts", "workstation_watts"),
)
NOT_READABLE = "not readable here"


@dataclass(frozen=True)
class Components:
    """One frame's; the first five, in seconds, add up to its latency.

    Attributes:
        edge: work of the edge's stages: decoding, preprocessing, engine, codec, boxes.
        link: transfer between the nodes in both directions, waits in the buffers included.
        workstation: work of the workstation's stages.
        queue: ready, but the engine was busy with other frames.
        other: the rest: transfer within a node, changes of thread, waiting for room.
        edge_execute: in the edge's engines; a part of `edge`.
        workstation_execute: in the workstation's engines; a part of `workstation`.
        link_bytes: payload that crossed the link, without the boxes' kilobyte.
    """

    edge: float
    link: float
    workstation: float
    queue: float
    other: float
    edge_execute: float
    workstation_execute: float
    link_bytes: int


def components(placement: Placement, cameras: str, timing: FrameTiming) -> Components:
    """Split a frame's time.

    A stage's `transfer` is measured by who sent to it, so that no two clocks are compared: the
    backbone's by the orchestrator, on the cameras' node, the transformer's by the backbone.

    Args:
        placement: that served the frame.
        cameras: node that the orchestrator runs on.
        timing: of both stages.
    """
    work = {True: 0.0, False: 0.0}
    execute = {True: 0.0, False: 0.0}
    link, link_bytes, queue = 0.0, 0, 0.0
    for node, sender, stage in _links(placement, cameras, timing):
        work[node == EDGE] += own_seconds(stage)
        execute[node == EDGE] += stage.execute_seconds
        queue += stage.queue_seconds
        if node != sender:
            link += stage.transfer_seconds
            link_bytes += stage.request_bytes
    known = work[True] + work[False] + queue + link
    return Components(
        edge=work[True],
        link=link,
        workstation=work[False],
        queue=queue,
        other=timing.total_seconds - known,
        edge_execute=execute[True],
        workstation_execute=execute[False],
        link_bytes=link_bytes,
    )


def own_seconds(stage: StageTiming) -> float:
    """What a stage itself did for a frame."""
    return sum(float(getattr(stage, f"{step}_seconds")) for step in _OWN_STEPS)


def _links(
    placement: Placement, cameras: str, timing: FrameTiming
) -> Iterator[tuple[str, str, StageTiming]]:
    """Each stage with its node and the node that sent to it."""
    nodes = {
        Stage.BACKBONE: (placement.backbone_node, cameras),
        Stage.TRANSFORMER: (placement.transformer_node, placement.backbone_node),
    }
    stages = {Stage.BACKBONE: timing.backbone, Stage.TRANSFORMER: timing.transformer}
    for stage, (node, sender) in nodes.items():
        told = stages[stage]
        if told is not None:
            yield node, sender, told


@dataclass(frozen=True)
class Spread:
    """A figure over the repetitions of a case.

    Attributes:
        median: of them.
        low: the smallest.
        high: the largest.
        count: how many there are.
    """

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class RunSummary:
    """One run's figures by the names in `METRICS`; None where it cannot be known.

    `fps`, latencies at full load, bytes, memory and power are of the frames in the pipeline;
    `single_latency_ms` and the components are medians of the frames sent one at a time.
    """

    run: Run
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class CaseSummary:
    """A case's figures over its runs, by the names in `METRICS`."""

    case: Case
    figures: Mapping[str, Spread | None]


def spread(values: Iterable[float | None]) -> Spread | None:
    """Median, least and most; None if any is not known, since the others would not be all."""
    told = list(values)
    known = [value for value in told if value is not None]
    if not known or len(known) < len(told):
        return None
    return Spread(statistics.median(known), min(known), max(known), len(known))


def summarise_cases(runs: Sequence[RunSummary], order: Sequence[Case]) -> list[CaseSummary]:
    """Each case that has runs, in the order given."""
    found = []
    for case in order:
        own = [each for each in runs if each.run.case == case]
        if own:
            figures = {name: spread(each.figures[name] for each in own) for name in METRICS}
            found.append(CaseSummary(case, figures))
    return found


def summarise_run(run: Run, folder: Path, config: Config) -> RunSummary:
    """Read a finished run's folder and evaluate it."""
    with (folder / FRAMES_FILE).open(encoding="utf-8", newline="") as file:
        frames = list(csv.DictReader(file))
    with (folder / SAMPLES_FILE).open(encoding="utf-8", newline="") as file:
        samples = [row for row in read_samples(file) if row.phase == PIPELINED]
    figures: dict[str, float | None] = dict(frame_figures(frames))
    for node in (EDGE, WORKSTATION):
        figures[f"{node}_memory_bytes"] = node_memory_bytes(samples, node, config.memory_kind)
        rail = dict(config.power_rails).get(node)  # type: ignore[call-overload]
        figures[f"{node}_watts"] = node_watts(samples, node, rail)
    return RunSummary(run, figures)


def frame_figures(frames: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """What the rows of `frames.csv` say."""
    pipelined = [row for row in frames if row["phase"] == PIPELINED]
    single = [row for row in frames if row["phase"] == SINGLE]
    answered = [float(row["answered_at_seconds"]) for row in pipelined]
    latencies = sorted(1000 * float(row["latency_seconds"]) for row in pipelined)
    figures = {
        "fps": (len(answered) - 1) / (answered[-1] - answered[0]),
        "latency_p50_ms": percentile(latencies, 0.50),
        "latency_p95_ms": percentile(latencies, 0.95),
        "bytes_per_frame": statistics.fmean(int(row["link_bytes"]) for row in pipelined),
        "single_latency_ms": _median_ms(single, "latency"),
    }
    return figures | {f"{name}_ms": _median_ms(single, name) for name in _COMPONENTS}


def write_runs(runs: Sequence[RunSummary], path: Path) -> None:
    """`runs.csv`: one line a run."""
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "placement", "codec", "link", "repeat", *METRICS])
        for each in runs:
            told = [_shown(each.figures[name], name) for name in METRICS]
            writer.writerow([*_case_cells(each.run.case), each.run.repeat, *told])


def write_cases(cases: Sequence[CaseSummary], path: Path) -> None:
    """`summary.csv`: one line a case, each figure with its least and its most."""
    columns = [f"{name}{part}" for name in METRICS for part in ("", "_low", "_high")]
    with replacing(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "placement", "codec", "link", "repeats", *columns])
        for each in cases:
            cells: list[Any] = []
            for name in METRICS:
                figure = each.figures[name]
                values = (figure.median, figure.low, figure.high) if figure else (None,) * 3
                cells += [_shown(value, name) for value in values]
            fps = each.figures["fps"]
            writer.writerow([*_case_cells(each.case), fps.count if fps else 0, *cells])


def _median_ms(rows: Sequence[Mapping[str, str]], name: str) -> float:
    return 1000 * statistics.median(float(row[f"{name}_seconds"]) for row in rows)


def _case_cells(case: Case) -> list[str]:
    codec = case.codec.value if case.codec else ""
    return [case.model, case.placement.value, codec, link_name(case.link)]


def _shown(value: float | None, name: str) -> str:
    if value is None:
        return NOT_READABLE if name.endswith("_watts") else ""
    return f"{value:.6g}"
