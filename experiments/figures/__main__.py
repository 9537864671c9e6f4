"""Figures and page of an experiment: `python -m experiments.figures RUN_DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common.domain.errors import TandemError
from common.files import replace_text
from experiments.figures.data import load_experiment, read_evaluations
from experiments.figures.page import page
from experiments.figures.plots import all_figures


def main() -> None:
    """Draw, write, and say where."""
    options = _options()
    try:
        experiment = load_experiment(options.run_dir)
        evaluations = read_evaluations(options.evaluation or [])
    except TandemError as error:
        sys.exit(str(error))
    figures = all_figures(experiment, options.run_dir / "figures")
    report = options.run_dir / "report.md"
    replace_text(report, page(experiment, figures, evaluations))
    sys.stderr.write(f"{report} and {len(figures)} figures are written\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.figures", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("run_dir", type=Path, help="folder that experiments.placements wrote")
    parser.add_argument(
        "--evaluation",
        action="append",
        metavar="MODEL=FILE",
        help="AP of a model for table 3.1: JSON as of `tandem evaluate --json`; repeatable",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
