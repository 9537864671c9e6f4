"""`python -m benchmarks`: the small suite, recorded for this commit and compared with before.

Takes about four minutes. `--check` exits 1 when a ratio has fallen by more than the noise. On a
machine that is busy with other work nothing is recorded, and nothing fails: it would say more of
that work than of Tandem.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.table import Table

from benchmarks.hosts import run_to_end
from benchmarks.record import (
    DEFAULT_RECORD,
    Comparison,
    SuiteRun,
    append_run,
    compare,
    read_record,
)
from benchmarks.report import commit, machine_facts, show_table
from benchmarks.suite import REPETITIONS, Ratios, measure
from common.domain.errors import ConfigurationError

_LOOK_SECONDS = 2.0
# Of the whole machine.
_MOST_BUSY = 0.2


def main() -> None:
    """Run, compare, print, record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 on a slowdown beyond noise")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help="of each measurement")
    parser.add_argument(
        "--record", type=Path, default=DEFAULT_RECORD, help="JSON lines, a run each"
    )
    parser.add_argument("--no-record", action="store_true", help="compare, but add nothing")
    options = parser.parse_args()
    if options.repetitions < 1:
        parser.error("--repetitions has to be at least 1")
    try:
        earlier = read_record(options.record)
    except ConfigurationError as error:
        parser.error(str(error))
    busy_before = _busy_share()
    with tempfile.TemporaryDirectory(prefix="tandem-benchmarks-") as folder:
        ratios = run_to_end(measure(Path(folder), options.repetitions, _tell))
    busy = max(busy_before, _busy_share())
    run = _run_of(ratios)
    comparisons = compare(run, earlier)
    show(comparisons)
    slower = [each.name for each in comparisons if each.is_slower]
    for name in slower:
        sys.stderr.write(f"slower than before, beyond the noise: {name}\n")
    if busy > _MOST_BUSY:
        sys.stderr.write(
            f"other work took {busy:.0%} of this machine, so that this run is neither recorded nor "
            "judged; repeat it with nothing else running\n"
        )
        return
    if not options.no_record:
        append_run(options.record, run)
    sys.exit(bool(slower) and options.check)


def show(comparisons: Sequence[Comparison]) -> None:
    """Print every ratio, in red where it has become slower."""
    table = Table()
    for heading in ("ratio (more is better)", "median", "spread", "before", "noise"):
        table.add_column(heading, justify="left" if "ratio" in heading else "right")
    for one in comparisons:
        before = ("", "") if one.before is None else (f"{one.before:.3f}", f"{one.noise:.3f}")
        table.add_row(
            one.name,
            *(f"{one.median:.3f}", f"{one.spread:.3f}", *before),
            style="red" if one.is_slower else "",
        )
    show_table("What Tandem reaches of what the machine could", table)


def _run_of(ratios: Ratios) -> SuiteRun:
    facts, source = machine_facts(), commit()
    return SuiteRun(
        commit=source["commit"],
        changed_files=source["changed_files"],
        date=f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        machine=f"{facts['processor']}, {facts['cores']} cores",
        ratios=ratios,
    )


def _busy_share() -> float:
    """The share of the machine's time that other work takes, while this process does nothing."""
    return psutil.cpu_percent(_LOOK_SECONDS) / 100


def _tell(name: str, value: float) -> None:
    sys.stderr.write(f"{name}: {value:.3f}\n")


if __name__ == "__main__":
    main()
