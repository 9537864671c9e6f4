"""The folder of an experiment: what was planned, what was measured on, what is finished."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.report import commit, machine_facts
from common.domain.errors import ConfigurationError
from common.files import replace_text
from common.validation import problems
from experiments.placements.cases import Run, all_cases, ordered_runs
from experiments.placements.config import Config
from experiments.placements.inputs import Model
from experiments.placements.summary import summarise_cases, summarise_run, write_cases, write_runs

RECORD_FILE = "record.json"
RUN_FILE = "run.json"
# What a manifest of either format says of its model.
_DESCRIPTION = {"architecture", "split", "family", "configuration", "trained", "origin"}


@dataclass(frozen=True)
class RunFolder:
    """An experiment on disk.

    `record.json` says what was run on what; `runs/NAME/` holds the raw rows of each finished run;
    `runs.csv` and `summary.csv` are made from them.
    """

    path: Path

    def begin(self, config: Config, models: Mapping[str, Model], resume: bool) -> None:
        """Write the record, or check that a resumed experiment is this one, and note the session.

        Raises:
            ConfigurationError: the folder is in use, or its experiment is another one.
        """
        record = _record(config, models)
        if resume and (self.path / RECORD_FILE).is_file():
            before = self.record()
            for key in ("config", "models"):
                if before[key] != record[key]:
                    raise ConfigurationError(
                        f"{self.path} holds runs of other {key}: name another folder"
                    )
            record["sessions"] = [*before["sessions"], *record["sessions"]]
        elif self.path.exists() and any(self.path.iterdir()):
            raise ConfigurationError(f"{self.path} is in use: give --resume or another --output")
        (self.path / "runs").mkdir(parents=True, exist_ok=True)
        replace_text(self.path / RECORD_FILE, json.dumps(record, indent=2) + "\n")

    def record(self) -> dict[str, Any]:
        """What `record.json` says.

        Raises:
            ConfigurationError: it is missing or malformed.
        """
        try:
            told = json.loads((self.path / RECORD_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{self.path} holds no experiment: {error}") from error
        return dict(told)

    def config(self) -> Config:
        """The configuration that was run.

        Raises:
            ConfigurationError: there is none, or another version wrote it.
        """
        try:
            return Config.model_validate(self.record()["config"])
        except (KeyError, ValidationError) as error:
            why = (
                problems(error, "file")
                if isinstance(error, ValidationError)
                else "config is missing"
            )
            raise ConfigurationError(
                f"{self.path / RECORD_FILE} is not of this version: {why}"
            ) from error

    def run_path(self, run: Run) -> Path:
        """Folder of a run; it exists when the run is finished."""
        return self.path / "runs" / run.name

    def finished(self, runs: Sequence[Run]) -> list[Run]:
        """Those whose measurements are here."""
        return [run for run in runs if (self.run_path(run) / RUN_FILE).is_file()]

    @contextmanager
    def writing(self, run: Run) -> Iterator[Path]:
        """A folder for a run's files, which takes its place only when all are written."""
        unfinished = self.run_path(run).with_name(f"{run.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        yield unfinished
        unfinished.rename(self.run_path(run))

    def seconds_taken(self, runs: Sequence[Run]) -> dict[Run, float]:
        """How long each finished run took."""
        return {
            run: float(json.loads((self.run_path(run) / RUN_FILE).read_text())["seconds"])
            for run in self.finished(runs)
        }

    def write_tables(self) -> None:
        """Make `runs.csv` and `summary.csv` of all finished runs."""
        config = self.config()
        done = self.finished(ordered_runs(config))
        runs = [summarise_run(run, self.run_path(run), config) for run in done]
        write_runs(runs, self.path / "runs.csv")
        write_cases(summarise_cases(runs, all_cases(config)), self.path / "summary.csv")


def _record(config: Config, models: Mapping[str, Model]) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json"),
        "simulated": config.simulated(),
        "models": {name: _model_record(model) for name, model in models.items()},
        "order": [run.name for run in ordered_runs(config)],
        "sessions": [
            {
                "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "load_average": os.getloadavg()[0],
                "machine": machine_facts(),
                **commit(),
            }
        ],
    }


def _model_record(model: Model) -> dict[str, Any]:
    if model.bundle is None:
        return {"digest": None}
    manifest = model.bundle.manifest
    return {
        "digest": model.bundle.digest,
        **manifest.model_dump(mode="json", include=_DESCRIPTION),
    }
