"""An experiment as its figures need it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from experiments.placements.cases import Case, all_cases, link_name, ordered_runs
from experiments.placements.config import UNSHAPED, Config, LocalNodes
from experiments.placements.folder import RunFolder
from experiments.placements.summary import (
    CaseSummary,
    Spread,
    summarise_cases,
    summarise_run,
)


@dataclass(frozen=True)
class Experiment:
    """What was run and what came out.

    Attributes:
        config: that was run.
        record: `record.json`.
        cases: in the configuration's order; those without a finished run are missing.
        runs_finished: number of them.
        runs_planned: number of them.
    """

    config: Config
    record: dict[str, Any]
    cases: list[CaseSummary]
    runs_finished: int
    runs_planned: int

    @property
    def models(self) -> list[str]:
        """Names of those that were run, in the configuration's order."""
        return list(dict.fromkeys(each.case.model for each in self.cases))

    @property
    def series(self) -> list[Series]:
        """What is told apart within one model."""
        return list(dict.fromkeys(Series.of(each.case, self.config) for each in self.cases))

    @property
    def computes(self) -> bool:
        """Whether engines ran models: those that only imitate hold none in memory."""
        return not (
            isinstance(self.config.nodes, LocalNodes) and self.config.nodes.engine == "none"
        )

    def figure(self, model: str, series: Series, name: str) -> Spread | None:
        """One figure of `experiments.placements.summary.METRICS`; None where it is not known."""
        for each in self.cases:
            if each.case.model == model and Series.of(each.case, self.config) == series:
                return each.figures[name]
        return None


@dataclass(frozen=True)
class Series:
    """All cases that differ in the model only.

    Attributes:
        case: one of them; its model means nothing.
        label: what tells it from the others.
    """

    case: Case
    label: str

    @classmethod
    def of(cls, case: Case, config: Config) -> Series:
        """The series of a case; what is the same everywhere is not in its label."""
        parts = [case.placement.value]
        if case.codec and len(config.codecs) > 1:
            parts.append(case.codec.value)
        if len(config.links) > 1:
            parts.append(link_label(case))
        return cls(Case("", case.placement, case.codec, case.link), ", ".join(parts))

    def stages_on(self, node: str) -> list[Stage]:
        """Which halves a node runs."""
        return [stage for stage in Stage if (node, stage) in self.case.used]


@dataclass(frozen=True)
class Evaluation:
    """A measured AP of a model, 0 to 1."""

    model: str
    ap: float


def link_label(case: Case) -> str:
    """For people."""
    return "unshaped" if case.link == UNSHAPED else link_name(case.link).replace("Mbit", " Mbit/s")


def load_experiment(path: Path) -> Experiment:
    """Read a folder of `experiments.placements`.

    Raises:
        ConfigurationError: it holds no finished run.
    """
    folder = RunFolder(path)
    config = folder.config()
    planned = ordered_runs(config)
    finished = folder.finished(planned)
    if not finished:
        raise ConfigurationError(f"{path} holds no finished run")
    runs = [summarise_run(run, folder.run_path(run), config) for run in finished]
    cases = summarise_cases(runs, all_cases(config))
    return Experiment(config, folder.record(), cases, len(finished), len(planned))


def read_evaluations(told: Sequence[str]) -> list[Evaluation]:
    """Read `MODEL=FILE` arguments: JSON with an `AP` at its top, as COCO's figures are named.

    Raises:
        ConfigurationError: an argument or a file is malformed.
    """
    found = []
    for text in told:
        model, _, file = text.partition("=")
        try:
            ap = float(json.loads(Path(file).read_text(encoding="utf-8"))["AP"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"--evaluation {text}: give MODEL=FILE, a JSON file with AP ({error})"
            ) from error
        found.append(Evaluation(model, ap))
    return found
