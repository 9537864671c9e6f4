"""From the raw rows of the runs to medians with their spread."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.domain.placement import EDGE, WORKSTATION
from common.files import replacing
from experiments.placements.cases import Case, Run, link_name
from experiments.placements.config import Config
from experiments.placements.samples import node_memory_bytes, node_watts, read_samples
from experiments.placements.streaming import PIPELINED, SINGLE
from tandem.bench import percentile

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
