"""One page with all figures and tables, the thesis's published numbers beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from common.bundle import Architecture
from common.domain.placement import EDGE, WORKSTATION, Placement
from experiments.figures import thesis
from experiments.figures.data import Evaluation, Experiment, Series, link_label
from experiments.figures.style import simulation_note
from experiments.placements.config import LocalNodes
from experiments.placements.summary import NOT_READABLE, CaseSummary, Spread

_MEGABYTE = 1e6

_LOCAL_METHOD = """\
- Every run starts its own services, only those that the placement uses, and stops them afterwards.
"""
_REMOTE_METHOD = """\
- The services were started beforehand and ran on from run to run. The link is the real network.
"""
_METHOD = """\
- A run streams its frames twice: first with as many in flight as the server takes (frames a second,
  latency at full load, bytes, memory, power), then one at a time (the times by component). Warm-up,
  and the last frames, when the pipeline runs empty, are left out. The order of the runs is random,
  one block of all cases a repetition; figures are medians of the runs, with the least and the most
  of them.
- *Edge* and *workstation* are what the stages on a node themselves did: decode, resize, engine,
  codec, boxes. *Link* is the way between the nodes and back as the sender saw it, without the
  time that the receiver held the frame: no two clocks are compared. The five components add up
  to the latency.
- Memory and power are sampled at 10 Hz from each service's `/metrics`. Memory is read at every
  sample. Power sensors are read by the services once a second, so that about ten samples in a row
  tell the same watts; the median over a run is not changed by that, but nothing faster than a
  second is seen."""


def page(
    experiment: Experiment, figures: Sequence[tuple[str, str]], evaluations: Sequence[Evaluation]
) -> str:
    """The page as Markdown.

    Args:
        experiment: what was run.
        figures: file names, without suffix, relative to the page's `figures/`, and captions.
        evaluations: measured AP of models, for table 3.1.
    """
    parts = [
        f"# {experiment.config.title}",
        _opening(experiment),
        "## Beside the thesis",
        _beside_thesis(experiment),
        "## Results",
        _results(experiment),
        *(_figure(file, caption, experiment) for file, caption in figures),
        "## Table 3.1: models",
        models_table(experiment, evaluations),
        "## How it was measured",
        _method(experiment),
        _origin(experiment),
    ]
    return "\n\n".join(parts) + "\n"


def _opening(experiment: Experiment) -> str:
    done = f"{experiment.runs_finished} of {experiment.runs_planned} runs are finished."
    note = simulation_note(experiment)
    if not note:
        return done
    nodes = experiment.config.nodes
    lines = [f"**Simulated: {note}.** {done}"]
    if isinstance(nodes, LocalNodes):
        for name, node in ((EDGE, nodes.edge), (WORKSTATION, nodes.workstation)):
            if node.simulates:
                times = "; ".join(
                    f"{model}: backbone {each.backbone:g} ms, transformer {each.transformer:g} ms"
                    for model, each in node.simulates.milliseconds.items()
                )
                lines.append(f"- {name}: {node.simulates.name}; {times}. {node.simulates.source}")
    return "\n".join([lines[0], "", *lines[1:]])


def _beside_thesis(experiment: Experiment) -> str:
    rows = list(_thesis_rows(experiment))
    if not rows:
        return "The thesis gives numbers for R50 and R34 only, which were not run here."
    intro = (
        f"The thesis ran on a {thesis.DEVICES}; its frames a second here are one over the times of "
        "its chapter 4, which leave the link out."
    )
    if not experiment.config.compare_with_thesis:
        intro += (
            " What was measured here are other devices: only what a placement gains over `full` "
            "compares."
        )
    heading = [
        *("backbone", "placement", "thesis, s", "thesis, FPS", "ours, FPS"),
        *("thesis, over full", "ours, over full"),
    ]
    remarks = [experiment.config.remarks.strip()] if experiment.config.remarks else []
    return "\n\n".join([intro, _table(heading, rows), *remarks])


def _thesis_rows(experiment: Experiment) -> Iterator[list[str]]:
    full = next((each for each in experiment.series if each.case.placement is Placement.FULL), None)
    for (model, placement), seconds in thesis.SECONDS_A_FRAME.items():
        at_full = experiment.figure(model, full, "fps") if full else None
        for each in experiment.series:
            ours = experiment.figure(model, each, "fps")
            if each.case.placement is placement and ours is not None:
                gain = thesis.SECONDS_A_FRAME[model, Placement.FULL] / seconds
                yield [
                    *(model, each.label, f"{seconds:.3f}", f"{1 / seconds:.1f}", _spread(ours, 1)),
                    f"{gain:.2f}",
                    f"{ours.median / at_full.median:.2f}" if at_full else "",
                ]


def _results(experiment: Experiment) -> str:
    heading = [
        *("model", "placement", "codec", "link", "FPS", "p50 ms", "p95 ms", "one frame alone, ms"),
        *("kB over the link", "edge MB", "workstation MB", "edge W", "workstation W"),
    ]
    return _table(heading, [_result_row(each, experiment) for each in experiment.cases])


def _result_row(each: CaseSummary, experiment: Experiment) -> list[str]:
    case, figures = each.case, each.figures
    series = Series.of(case, experiment.config)
    cells = [case.model, case.placement.value, case.codec.value if case.codec else "–"]
    cells += [link_label(case), _spread(figures["fps"], 2)]
    for name in ("latency_p50_ms", "latency_p95_ms", "single_latency_ms"):
        cells.append(_spread(figures[name], 1))
    cells.append(_spread(figures["bytes_per_frame"], 1, 1000))
    for node in (EDGE, WORKSTATION):
        if not series.stages_on(node):
            cells.append("–")
        elif not experiment.computes:
            cells.append("simulated: no model")
        else:
            cells.append(_spread(figures[f"{node}_memory_bytes"], 0, _MEGABYTE))
    for node in (EDGE, WORKSTATION):
        watts = _spread(figures[f"{node}_watts"], 2)
        cells.append((watts or NOT_READABLE) if series.stages_on(node) else "–")
    return cells


def _figure(file: str, caption: str, experiment: Experiment) -> str:
    note = simulation_note(experiment)
    said = f"{caption} (simulated: {note})" if note else caption
    return f"## {caption}\n\n![{said}](figures/{file}.png)"


def models_table(experiment: Experiment, evaluations: Sequence[Evaluation]) -> str:
    """Table 3.1's shape: the thesis's rows and ours; what was not measured says so."""
    rows = [[row.model, "thesis", row.parameters, row.ap] for row in thesis.TABLE_3_1]
    measured = {each.model: each.ap for each in evaluations}
    for name, model in experiment.record["models"].items():
        architecture = model.get("architecture")
        count = parameters(Architecture.model_validate(architecture)) if architecture else None
        ap = f"{100 * measured.pop(name):.1f}" if name in measured else "not evaluated"
        if model.get("trained") is False:
            ap = "none: random weights"
        rows.append([f"DETR-{name}", "here", f"{count / 1e6:.1f}M" if count else "not known", ap])
    rows += [[name, "evaluation", "", f"{100 * ap:.1f}"] for name, ap in measured.items()]
    return _table(["model", "from", "parameters", "AP"], rows)


def parameters(architecture: Architecture) -> int | None:
    """Parameters of a DETR, without allocating them; None where torch is not installed."""
    try:
        import torch

        from detr.model import DETR
    except ImportError:
        return None
    with torch.device("meta"):
        return sum(each.numel() for each in DETR(architecture).parameters())


def _method(experiment: Experiment) -> str:
    is_local = isinstance(experiment.config.nodes, LocalNodes)
    return (_LOCAL_METHOD if is_local else _REMOTE_METHOD) + _METHOD


def _origin(experiment: Experiment) -> str:
    record = experiment.record
    session = record["sessions"][-1]
    machine = session["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    changed = " with changed files" if session["changed_files"] else ""
    loads = ", ".join(f"{each['load_average']:.1f}" for each in record["sessions"])
    digests = ", ".join(
        f"{name} {(model['digest'] or 'not known')[:12]}"
        for name, model in record["models"].items()
    )
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_bytes'] / (1 << 30):.0f} GiB, {machine['system']}, "
        f"Python {machine['python']}, {packages}; load average at the start {loads}. "
        f"Commit {session['commit'] or 'not known'}{changed}. Bundles: {digests}. "
        f"Seed {experiment.config.seed}. All of it, and the raw rows, are beside this page: "
        "`record.json`, `runs.csv`, `summary.csv`, `runs/*/frames.csv`, `runs/*/samples.csv`."
    )


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _spread(figure: Spread | None, decimals: int, scale: float = 1.0) -> str:
    if figure is None:
        return ""
    median, low, high = (
        f"{value / scale:.{decimals}f}" for value in (figure.median, figure.low, figure.high)
    )
    return median if low == high else f"{median} ({low}–{high})"
