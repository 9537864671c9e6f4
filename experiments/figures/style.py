"""How all figures look, and what each says of its own origin."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.domain.placement import Placement
from common.files import replacing
from experiments.figures.data import Experiment, Series, link_label
from experiments.placements.config import RemoteNodes

PLACEMENT_COLOURS = {
    Placement.FULL: "#3b6fb6",
    Placement.BACKBONE: "#e08a1e",
    Placement.TRANSFORMER: "#4f9d69",
    Placement.WORKSTATION: "#8a6fae",
}
COMPONENT_COLOURS = {
    "edge": "#3b6fb6",
    "link": "#d9534f",
    "workstation": "#8a6fae",
    "queue": "#999999",
    "other": "#d0d0d0",
}
# Of the series of one placement: solid first.
_HATCHES = ("", "///", "...", "xxx")
_WIDTH_INCHES = 8.0
_MARGIN_INCHES = 0.12
_LINE_INCHES = 0.2
_LEGEND_LINE_INCHES = 0.24
_FOOTER_LINE_INCHES = 0.16
# That fit the width, of the subtitle and of the footer.
_SUBTITLE_CHARACTERS = 104
_FOOTER_CHARACTERS = 140
# That fit a line of the legend; its key and the space behind take as much as some of them.
_LEGEND_CHARACTERS = 106
_KEY_CHARACTERS = 7
_SETTINGS: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    # The same rows give the same file.
    "svg.hashsalt": "tandem",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Look:
    """How one series is drawn."""

    colour: str
    hatch: str


@dataclass(frozen=True)
class Frame:
    """What surrounds the plots.

    Attributes:
        title: in bold.
        legend: handles, above the plots.
        bars: what bars stand for, below the plots; empty when there are none.
    """

    title: str
    legend: Sequence[Artist] = ()
    bars: str = "bars are medians, whiskers the least and the most."

    @property
    def columns(self) -> int:
        """Of the legend: one line if the labels fit it, else as many as do."""
        longest = max((len(str(handle.get_label())) for handle in self.legend), default=0)
        total = sum(len(str(handle.get_label())) + _KEY_CHARACTERS for handle in self.legend)
        if total <= _LEGEND_CHARACTERS:
            return len(self.legend)
        return max(1, _LEGEND_CHARACTERS // (longest + _KEY_CHARACTERS))


def looks(series: Sequence[Series]) -> dict[Series, Look]:
    """A colour a placement, a hatch a codec or link."""
    seen: dict[Placement, int] = {}
    found = {}
    for each in series:
        place = each.case.placement
        found[each] = Look(PLACEMENT_COLOURS[place], _HATCHES[seen.get(place, 0) % len(_HATCHES)])
        seen[place] = seen.get(place, 0) + 1
    return found


@contextmanager
def drawing(
    experiment: Experiment, frame: Frame, plot_inches: float, rows: int = 1
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure of `rows` plots with their title and legend above and their origin below.

    Args:
        experiment: that is drawn.
        frame: what surrounds the plots.
        plot_inches: height of all plots.
        rows: plots, one below the other.
    """
    subtitle = textwrap.wrap(_subtitle(experiment), _SUBTITLE_CHARACTERS)
    repeats = experiment.config.repeats
    bars = f"Of {repeats} run{'s' * (repeats > 1)}, {frame.bars} " if frame.bars else ""
    footer = textwrap.wrap(origin(experiment, bars), _FOOTER_CHARACTERS)
    columns = max(1, frame.columns)
    legend_lines = -(-len(frame.legend) // columns)
    header = 2 * _MARGIN_INCHES + _LINE_INCHES * (1 + len(subtitle))
    above = header + _LEGEND_LINE_INCHES * legend_lines + _MARGIN_INCHES
    below = 2 * _MARGIN_INCHES + _FOOTER_LINE_INCHES * len(footer)
    height = above + plot_inches + below
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        engine: Any = figure.get_layout_engine()
        engine.set(rect=(0.01, below / height, 0.98, plot_inches / height))
        _write_header(figure, frame.title, subtitle, is_simulated=bool(simulation_note(experiment)))
        _write(figure, "\n".join(footer), height - below + _MARGIN_INCHES, size=7.5)
        if frame.legend:
            legend = figure.legend(
                handles=frame.legend,
                loc="upper left",
                bbox_to_anchor=(0.005, 1 - header / height),
                ncols=columns,
                frameon=False,
                fontsize=9,
                borderaxespad=0,
            )
            legend.set_in_layout(False)
        yield figure, list(figure.subplots(rows, 1, squeeze=False)[:, 0])


def _write_header(figure: Figure, title: str, subtitle: Sequence[str], is_simulated: bool) -> None:
    _write(figure, title, _MARGIN_INCHES, size=12, weight="bold")
    colour = "#b02a2a" if is_simulated else "#444444"
    text = "\n".join(subtitle)
    _write(figure, text, 2 * _MARGIN_INCHES + _LINE_INCHES, size=9, colour=colour)


def _write(
    figure: Figure,
    text: str,
    below_top_inches: float,
    *,
    size: float,
    weight: str = "normal",
    colour: str = "#222222",
) -> None:
    at = 1 - below_top_inches / figure.get_size_inches()[1]
    figure.text(0.012, at, text, size=size, weight=weight, color=colour, va="top")


def _subtitle(experiment: Experiment) -> str:
    note = simulation_note(experiment)
    return f"SIMULATED: {note}" if note else experiment.config.title


def simulation_note(experiment: Experiment) -> str:
    """What is imitated, in a line; empty when nothing is."""
    nodes = experiment.config.nodes
    if isinstance(nodes, RemoteNodes):
        return ""
    imitated = [
        f"the {name} imitates {node.simulates.name}"
        for name, node in (("edge", nodes.edge), ("workstation", nodes.workstation))
        if node.simulates
    ]
    if not imitated:
        return ""
    return f"{', '.join(imitated)}; engines are held to these times" + (
        "" if experiment.computes else " and compute nothing"
    )


def origin(experiment: Experiment, bars: str) -> str:
    """Where the numbers come from."""
    config = experiment.config
    links = ", ".join(dict.fromkeys(link_label(each.case) for each in experiment.cases))
    codecs = ", ".join(codec.value for codec in config.codecs)
    setting = (
        f"{bars}Link: {links}; codec: {codecs}; client and orchestrator on the {config.cameras}."
    )
    nodes = config.nodes
    if isinstance(nodes, RemoteNodes):
        return f"{setting} Edge: {nodes.edge}. Workstation: {nodes.workstation}."
    machine = experiment.record["sessions"][-1]["machine"]
    size = f"{config.input.height}x{config.input.width}"
    return f"{setting} Measured on {machine['processor']}, one core a node; input {size}."


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write PNG and SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_SETTINGS):
        with replacing(folder / f"{name}.png") as beside:
            figure.savefig(beside, dpi=150, metadata={"Software": None})
        with replacing(folder / f"{name}.svg") as beside:
            figure.savefig(beside, metadata={"Date": None})
