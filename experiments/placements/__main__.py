"""The placement experiment: `python -m experiments.placements --config FILE`.

Runs every model, placement, codec and link of the configuration, each in random order and
repeated, and writes raw rows, medians and a record of what was measured on into a folder, which
`python -m experiments.figures FOLDER` turns into figures and a page.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from benchmarks.hosts import run_to_end
from common.domain.errors import TandemError
from experiments.placements.cases import Run, ordered_runs, remaining_seconds
from experiments.placements.config import UNSHAPED, Config, load_config
from experiments.placements.folder import RunFolder
from experiments.placements.inputs import DEFAULT_CACHE, frame_files, prepare_models
from experiments.placements.running import measure, plan_of, write_run
from experiments.placements.sites import LocalSite, RemoteSite, site_of, with_possible_links


class Progress:
    """A bar for all runs and one for the frames of the run under way; lines without a terminal."""

    def __init__(self, runs: Sequence[Run], taken: Mapping[Run, float]) -> None:
        """Show `runs`, of which those in `taken` are finished, each with its seconds."""
        self._left = [run for run in runs if run not in taken]
        self._taken = dict(taken)
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        self._all = self._bars.add_task("runs", total=len(runs), completed=len(taken), note="")
        self._frames = self._bars.add_task("frames", total=None, note="")

    def __enter__(self) -> Self:
        """Begin to show."""
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()

    def begin(self, run: Run, frames: int) -> None:
        """A run of this many frames begins."""
        self._bars.reset(self._frames, total=frames, description=run.name)

    def advance(self) -> None:
        """A frame was answered."""
        self._bars.advance(self._frames)

    def end(self, run: Run, seconds: float) -> None:
        """The run is finished and written."""
        self._taken[run] = seconds
        self._left.remove(run)
        remaining = remaining_seconds(self._left, self._taken) or 0.0
        note = f"about {timedelta(seconds=round(remaining))} left"
        self._bars.update(self._all, advance=1, note=note)
        self._console.print(
            f"{run.name}: {seconds:.1f} s; runs left: {len(self._left)}, {note}", highlight=False
        )


async def run_all(
    config: Config,
    folder: RunFolder,
    site: LocalSite | RemoteSite,
    *,
    files: Path,
    runs: Sequence[Run],
    progress: Progress,
) -> None:
    """Measure each run that is not finished yet."""
    finished = set(folder.finished(runs))
    shaped = any(link != UNSHAPED for link in config.links)
    with site.network(shaped):
        for run in runs:
            if run in finished:
                continue
            plan = plan_of(run, config, files)
            began = time.monotonic()
            progress.begin(run, sum(phase.total for phase in plan.phases))
            measured = await measure(site, run, plan, progress.advance)
            taken = time.monotonic() - began
            with folder.writing(run) as unfinished:
                write_run(unfinished, run, measured, taken)
            folder.write_tables()
            progress.end(run, taken)


def main() -> None:
    """Read the command line, prepare, run, and say where everything is."""
    options = _options()
    try:
        config = with_possible_links(load_config(options.config))
        models = prepare_models(config, options.cache, _say)
        if options.export_only:
            return
        output = options.output or Path("output") / "experiments" / (
            f"{config.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        )
        folder = RunFolder(output)
        folder.begin(config, models, options.resume)
        files = output / "files.txt"
        paths = frame_files(config, options.cache)
        files.write_text("".join(f"{path.resolve()}\n" for path in paths), encoding="utf-8")
    except TandemError as error:
        sys.exit(str(error))
    runs = [
        run for run in ordered_runs(config) if not options.model or run.case.model in options.model
    ]
    site = site_of(config, models)
    with Progress(runs, folder.seconds_taken(runs)) as progress:
        run_to_end(
            run_all(config, folder, site, files=files.resolve(), runs=runs, progress=progress)
        )
    _say(f"all runs are in {output}; next: python -m experiments.figures {output}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.placements", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file: what to run")
    parser.add_argument(
        "--output", type=Path, help="folder to write; default: output/experiments/NAME-TIME"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the runs that --output does not hold yet"
    )
    parser.add_argument(
        "--model", action="append", help="run this model only (may be given more than once)"
    )
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, help="folder of exported models and frames"
    )
    parser.add_argument(
        "--export-only", action="store_true", help="export the models that are missing, and end"
    )
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
