"""Each figure of the thesis's section 3.3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.domain.placement import EDGE, WORKSTATION, Placement
from experiments.figures import thesis
from experiments.figures.bars import grouped_bars, legend_handles, say_instead
from experiments.figures.data import Experiment, Series
from experiments.figures.style import COMPONENT_COLOURS, Frame, drawing, looks, save
from experiments.placements.summary import NOT_READABLE, Spread

_COMPONENTS = {
    "edge": "edge computing",
    "link": "link",
    "workstation": "workstation computing",
    "queue": "waiting for an engine",
    "other": "the rest",
}
_PLOT_INCHES = 3.4
_PANEL_INCHES = 2.6
_BAR_INCHES = 0.28
_GIGABYTE = 1e9


def all_figures(experiment: Experiment, folder: Path) -> list[tuple[str, str]]:
    """Draw and write every figure.

    Returns:
        Name of its files, without the suffix, and caption of each.
    """
    drawn = []
    for number, name, caption, draw in _FIGURES:
        file = f"figure-{number}-{name}"
        save(draw(experiment, f"Figure {number}: {caption}"), folder, file)
        drawn.append((file, f"Figure {number}: {caption}"))
    return drawn


def frames_per_second(experiment: Experiment, title: str) -> Figure:
    """Figure 3.2: frames a second of the whole pipeline."""
    compared = experiment.config.compare_with_thesis
    series = looks(experiment.series)

    def value(model: str, each: Series) -> Spread | None:
        return experiment.figure(model, each, "fps")

    def mark(model: str, each: Series) -> float | None:
        return thesis.frames_per_second(model, each.case.placement)

    frame = Frame(title, legend_handles(series, compared))
    with drawing(experiment, frame, _PLOT_INCHES) as (figure, (axes,)):
        grouped_bars(axes, experiment.models, series, value, mark=mark if compared else None)
        axes.set_ylabel("frames a second")
        axes.set_xlabel("backbone")
    return figure


def time_by_component(experiment: Experiment, title: str) -> Figure:
    """Figure 3.3: where the time of one frame goes, each frame alone in the system."""
    models = experiment.models
    handles = [
        Patch(facecolor=COMPONENT_COLOURS[name], label=label) for name, label in _COMPONENTS.items()
    ]
    frame = Frame(title, handles, bars="parts of bars are medians.")
    inches = 0.3 + len(models) * (0.7 + len(experiment.series) * _BAR_INCHES)
    with drawing(experiment, frame, inches, rows=len(models)) as (figure, panels):
        longest = max(
            _stack(axes, experiment, model) for axes, model in zip(panels, models, strict=True)
        )
        for axes in panels:
            axes.set_xlim(0, longest * 1.1)
        panels[-1].set_xlabel("milliseconds a frame, one frame in flight")
    return figure


def _stack(axes: Axes, experiment: Experiment, model: str) -> float:
    """One model's bars; the longest, in milliseconds."""
    longest = 0.0
    for row, each in enumerate(experiment.series):
        left = 0.0
        for name in _COMPONENTS:
            spread = experiment.figure(model, each, f"{name}_ms")
            width = max(0.0, spread.median) if spread else 0.0
            axes.barh(row, width, left=left, color=COMPONENT_COLOURS[name], height=0.72)
            left += width
        if left:
            offset = {"xytext": (4, 0), "textcoords": "offset points"}
            axes.annotate(f"{left:.0f}", (left, row), va="center", size=8, **offset)  # type: ignore[arg-type]
        longest = max(longest, left)
    labels = [each.label for each in experiment.series]
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_title(model, loc="left", size=10, weight="bold")
    axes.grid(axis="x", color="#e6e6e6")
    return longest


def edge_frames_per_second(experiment: Experiment, title: str) -> Figure:
    """Figure 3.4: what the edge's part could do by itself, one over figure 3.5."""

    def value(model: str, each: Series) -> Spread | None:
        spread = experiment.figure(model, each, "edge_execute_ms")
        if spread is None or spread.low <= 0:
            return None
        return Spread(1000 / spread.median, 1000 / spread.high, 1000 / spread.low, spread.count)

    def mark(model: str, each: Series) -> float | None:
        seconds = _thesis_edge_seconds(model, each)
        return 1 / seconds if seconds else None

    return _edge_bars(experiment, title, "frames a second", value, mark)


def edge_time(experiment: Experiment, title: str) -> Figure:
    """Figure 3.5: time in the edge's engines."""

    def value(model: str, each: Series) -> Spread | None:
        return experiment.figure(model, each, "edge_execute_ms")

    def mark(model: str, each: Series) -> float | None:
        seconds = _thesis_edge_seconds(model, each)
        return 1000 * seconds if seconds else None

    return _edge_bars(experiment, title, "milliseconds a frame", value, mark)


def power(experiment: Experiment, title: str) -> Figure:
    """Figure 3.6: power of each node while frames stream."""
    return _node_panels(experiment, title, "watts", unit="watts", unknown=NOT_READABLE)


def memory(experiment: Experiment, title: str) -> Figure:
    """Figure 3.7: memory of each node while frames stream."""
    if not experiment.computes:
        return _empty(experiment, title, "not measured: a simulated device holds no model")
    return _node_panels(
        experiment,
        title,
        "memory_bytes",
        unit="gigabytes",
        unknown=NOT_READABLE,
        scale=_GIGABYTE,
    )


def _thesis_edge_seconds(model: str, series: Series) -> float | None:
    if series.case.placement is Placement.BACKBONE:
        return thesis.BACKBONE_SECONDS.get(model)
    if series.case.placement is Placement.FULL:
        return thesis.SECONDS_A_FRAME.get((model, Placement.FULL))
    return None


def _edge_bars(
    experiment: Experiment,
    title: str,
    unit: str,
    value: Callable[[str, Series], Spread | None],
    mark: Callable[[str, Series], float | None],
) -> Figure:
    """What runs on the edge: the codec does not matter, so the first of each placement is drawn."""
    compared = experiment.config.compare_with_thesis
    first: dict[Placement, Series] = {}
    for each in experiment.series:
        if each.stages_on(EDGE):
            first.setdefault(each.case.placement, each)
    if not first:
        return _empty(experiment, title, "no placement uses the edge")
    named = {
        Series(each.case, " + ".join(stage.value for stage in each.stages_on(EDGE))): each
        for each in first.values()
    }
    drawn = looks(list(named))
    frame = Frame(title, legend_handles(drawn, compared))
    with drawing(experiment, frame, _PLOT_INCHES) as (figure, (axes,)):
        grouped_bars(
            axes,
            experiment.models,
            drawn,
            lambda model, each: value(model, named[each]),
            mark=mark if compared else None,
        )
        axes.set_ylabel(f"{unit}\n(engines only, one frame in flight)")
        axes.set_xlabel("backbone")
    return figure


def _node_panels(
    experiment: Experiment,
    title: str,
    figure_name: str,
    *,
    unit: str,
    unknown: str,
    scale: float = 1.0,
) -> Figure:
    """Edge above, workstation below; text where nothing is known."""

    def of(node: str) -> Callable[[str, Series], Spread | None]:
        def value(model: str, each: Series) -> Spread | None:
            told = experiment.figure(model, each, f"{node}_{figure_name}")
            if told is None:
                return None
            return Spread(told.median / scale, told.low / scale, told.high / scale, told.count)

        return value

    series = looks(experiment.series)
    values = {node: of(node) for node in (EDGE, WORKSTATION)}
    known = {
        node: any(value(model, each) for model in experiment.models for each in series)
        for node, value in values.items()
    }
    if not any(known.values()):
        return _empty(experiment, title, unknown)
    frame = Frame(title, legend_handles(series))
    with drawing(experiment, frame, 2 * _PANEL_INCHES, rows=2) as (figure, panels):
        for axes, (node, value) in zip(panels, values.items(), strict=True):
            axes.set_title(node, loc="left", size=10, weight="bold")
            if not known[node]:
                say_instead(axes, unknown)
                continue
            used = {each: look for each, look in series.items() if each.stages_on(node)}
            grouped_bars(axes, experiment.models, used, value, decimals=2)
            axes.set_ylabel(unit)
        panels[-1].set_xlabel("backbone")
    return figure


def _empty(experiment: Experiment, title: str, reason: str) -> Figure:
    """A figure without a plot, which says why."""
    with drawing(experiment, Frame(title, bars=""), 1.0) as (figure, (axes,)):
        say_instead(axes, reason)
    return figure


_FIGURES: tuple[tuple[str, str, str, Callable[[Experiment, str], Figure]], ...] = (
    ("3.2", "fps", "frames a second by backbone and placement", frames_per_second),
    ("3.3", "components", "time of a frame by component", time_by_component),
    ("3.4", "edge-fps", "frames a second of the edge's component", edge_frames_per_second),
    ("3.5", "edge-time", "time of the edge's component", edge_time),
    ("3.6", "power", "power by backbone and placement", power),
    ("3.7", "memory", "memory by backbone and placement", memory),
)
