"""The record of the small suite: a line of JSON a run, and whether the latest has become slower."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.domain.errors import ConfigurationError

DEFAULT_RECORD = Path(__file__).with_name("record.jsonl")
COMPARED_RUNS = 5
"""Earlier runs that the latest is held against."""
LEAST_NOISE = 0.03
"""Share of a ratio within which no two runs are told apart, however alike their repetitions."""


@dataclass(frozen=True)
class SuiteRun:
    """One run of the suite.

    Attributes:
        commit: that was measured; None where git is not.
        changed_files: whether files differed from the commit.
        date: when, UTC, ISO 8601.
        machine: its kind, such as `AMD EPYC, 2 cores`; only runs of one kind are compared.
        ratios: of each measurement what each repetition gave; more is better.
    """

    commit: str | None
    changed_files: bool | None
    date: str
    machine: str
    ratios: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Comparison:
    """One ratio of the latest run beside the earlier ones.

    Attributes:
        name: of the measurement.
        median: of the latest run's repetitions.
        spread: the largest less the smallest of them.
        before: median of the earlier runs' medians; None: it was never measured on this machine.
        noise: by how much less than `before` it may be without being called slower.
    """

    name: str
    median: float
    spread: float
    before: float | None
    noise: float

    @property
    def is_slower(self) -> bool:
        """Whether the ratio has fallen by more than the noise."""
        return self.before is not None and self.median < self.before - self.noise


def compare(latest: SuiteRun, earlier: Sequence[SuiteRun]) -> list[Comparison]:
    """Hold a run against the last runs of the same kind of machine.

    The noise is what repetitions of one run differ by, in the latest run or (the median of) the
    earlier ones, or what the earlier runs differ by among each other, whichever is most; and not
    less than `LEAST_NOISE` of the ratio.

    Args:
        latest: the run to judge.
        earlier: the record so far, oldest first, of any machines.
    """
    alike = [run for run in earlier if run.machine == latest.machine]
    return [
        _compare_one(name, values, [run.ratios[name] for run in alike if name in run.ratios])
        for name, values in latest.ratios.items()
    ]


def _compare_one(
    name: str, values: Sequence[float], earlier: Sequence[Sequence[float]]
) -> Comparison:
    median, spread = statistics.median(values), max(values) - min(values)
    compared = earlier[-COMPARED_RUNS:]
    if not compared:
        return Comparison(name, median, spread, None, 0.0)
    medians = [statistics.median(each) for each in compared]
    spreads = [max(each) - min(each) for each in compared]
    before = statistics.median(medians)
    noise = max(
        spread, statistics.median(spreads), max(medians) - min(medians), LEAST_NOISE * before
    )
    return Comparison(name, median, spread, before, noise)


def read_record(path: Path) -> list[SuiteRun]:
    """The runs of a record, oldest first; none if the file is not there.

    Raises:
        ConfigurationError: a line is no run.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_run_of(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _run_of(path: Path, number: int, line: str) -> SuiteRun:
    try:
        content: dict[str, Any] = json.loads(line)
        return SuiteRun(**content)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path}, line {number}, is no run of the suite") from error


def append_run(path: Path, run: SuiteRun) -> None:
    """Add a run to the end of a record."""
    rounded = {name: [round(value, 4) for value in values] for name, values in run.ratios.items()}
    line = json.dumps({**asdict(run), "ratios": rounded})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
