"""What every benchmark says: the machine, the commit, a table, a CSV file; how figures are made."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from benchmarks.camera import Answer
from benchmarks.hosts import ROOT
from common.files import replacing
from common.telemetry.power_mode import power_mode
from tandem.bench import percentile

TIMES_BARE = "times bare"
"""Unit of a time as a multiple of what the bare transport takes for it."""
_LESS_IS_BETTER = ("ms", TIMES_BARE)

PACKAGES = ("grpcio", "onnxruntime", "numpy", "opencv-python-headless")


def machine_facts() -> dict[str, Any]:
    """Processor, cores, memory (bytes), system, Python, some packages, power mode and clocks."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "power_mode": asdict(power_mode()),
    }


def processor() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> dict[str, Any]:
    """The commit that is checked out, and whether files differ from it; None where git is not."""
    found = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": found, "changed_files": None if changes is None else bool(changes)}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Row:
    """One line of a benchmark.

    Attributes:
        what: was measured.
        reached: the figure.
        unit: of it.
        required: the least that it has to be, or the most where less is better; None: nothing is
            asked.
        compared_with: what the figure was set against, measured in the same run.
        simulated: what of it was paced; empty when nothing was.
    """

    what: str
    reached: float
    unit: str
    required: float | None = None
    compared_with: str = ""
    simulated: str = ""

    @property
    def passed(self) -> bool | None:
        """Whether it is enough; None when nothing is asked."""
        if self.required is None:
            return None
        if self.unit in _LESS_IS_BETTER:
            return self.reached < self.required
        return self.reached >= self.required


def machine() -> str:
    """The machine and the software, in a line."""
    facts = machine_facts()
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return (
        f"{facts['processor']}, {facts['cores']} cores, "
        f"{facts['memory_bytes'] / (1 << 30):.0f} GiB, "
        f"{facts['system']}, Python {facts['python']}, "
        f"{packages}; load {os.getloadavg()[0]:.1f} at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )


def show(title: str, rows: Sequence[Row]) -> None:
    """Print the rows, in green and red where something is required."""
    table = Table()
    for heading in ("what", "reached", "required", "compared with", "simulated"):
        table.add_column(heading, justify="right" if heading in {"reached", "required"} else "left")
    for row in rows:
        table.add_row(
            row.what,
            f"{row.reached:.4g} {row.unit}".strip(),
            "" if row.required is None else _required(row),
            row.compared_with,
            row.simulated,
            style={True: "green", False: "red", None: ""}[row.passed],
        )
    show_table(title, table)


def conclude(title: str, rows: Sequence[Row], csv_path: Path | None) -> NoReturn:
    """Print the rows, write them if a file is named, and exit: 1 when one is not as required."""
    show(title, rows)
    if csv_path is not None:
        write_csv(csv_path, rows)
    sys.exit(any(row.passed is False for row in rows))


def show_table(title: str, table: Table) -> None:
    """Print a table, the machine below it."""
    table.title, table.caption, table.caption_justify = title, machine(), "left"
    Console(width=150).print(table)


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """Write rows, all of one dataclass; the machine in a comment above them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {machine()}\n")
        writer = csv.DictWriter(file, fieldnames=[each.name for each in fields(rows[0])])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def frames_per_second(answers: Sequence[Answer]) -> float:
    """The rate of answers between the first and the last."""
    first, last = answers[0].answered_at, answers[-1].answered_at
    return (len(answers) - 1) / (last - first)


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """Nearest rank, in milliseconds."""
    return 1000 * percentile(sorted(seconds), share)


def _required(row: Row) -> str:
    return f"{'under' if row.unit in _LESS_IS_BETTER else 'at least'} {row.required:g}"
