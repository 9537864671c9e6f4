"""Runs the steps of this package, each in a process of its own with a time limit.

It needs nothing but Python, so that a missing package fails the steps that use it and no other.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The module of each step, and the seconds that it may take; `TOTAL_SECONDS` bounds all together,
# and leaves some of the five minutes for starting.
STEPS = {
    "machine": ("scripts.gpu.machine", 60),
    "engines": ("scripts.gpu.engines", 45),
    "onnxruntime": ("scripts.gpu.engines", 20),
    "tensorrt": ("scripts.gpu.engines", 25),
    "sensors": ("scripts.gpu.machine", 15),
    "training": ("scripts.gpu.training", 70),
    "services": ("scripts.gpu.services", 85),
    "services_r50": ("scripts.gpu.services", 85),
}
TOTAL_SECONDS = 290.0
RESULT_PREFIX = "RESULT "


def main() -> int:
    """Run all steps; 1 if one failed or ran out of time."""
    if sys.argv[1:2] == ["--one-step"]:
        _do(*sys.argv[2:])
        return 0
    arguments = _arguments()
    ends = time.monotonic() + TOTAL_SECONDS
    failed = False
    with tempfile.TemporaryDirectory(prefix="tandem-gpu-check-") as folder:
        environment = _environment(Path(folder), arguments.quick)
        for step in arguments.steps.split(","):
            line = _run(step, arguments, Path(folder), environment, ends)
            failed |= line["status"] in {"failed", "timeout"}
            text = json.dumps(line)
            print(text, flush=True)  # noqa: T201 - this is what the script is for
            if arguments.output is not None:
                arguments.output.parent.mkdir(parents=True, exist_ok=True)
                with arguments.output.open("a", encoding="utf-8") as file:
                    file.write(text + "\n")
    return int(failed)


def _do(step: str, options: str) -> None:
    """Do one step, in the process that was started for it."""
    from scripts.gpu.machine import Options

    module = importlib.import_module(STEPS[step][0])
    getattr(module, step)(Options(**json.loads(options)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/gpu_check.sh", description=__doc__)
    parser.add_argument("--output", type=Path, help="append the lines of JSON to this file")
    parser.add_argument("--artwork", type=Path, help="what `python -m scenes pack` made")
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu: run what a PC without a GPU can, which tries the script and measures nothing",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small models, a second each; trains on the demo clip",
    )
    parser.add_argument("--steps", default=",".join(STEPS), help="which, by name")
    chosen = parser.parse_args()
    unknown = set(chosen.steps.split(",")) - set(STEPS)
    if unknown:
        parser.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(STEPS)}")
    return chosen


def _environment(folder: Path, quick: bool) -> dict[str, str]:
    """Let services find the torch engine where the project itself is not installed.

    Engines outside `common` are entry points, which are read from a package's metadata.
    """
    metadata = folder / "site" / "tandem_gpu_check-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tandem-gpu-check\nVersion: 0\n", encoding="utf-8"
    )
    (metadata / "entry_points.txt").write_text(
        "[tandem.engines]\ntorch = detr.engine\n", encoding="utf-8"
    )
    paths = [str(folder / "site"), os.environ.get("PYTHONPATH", "")]
    added = {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    if quick:
        # On a busy machine threads that wait for one another take twenty times as long.
        added["OMP_NUM_THREADS"] = "1"
    return {**os.environ, **added}


def _run(
    step: str,
    arguments: argparse.Namespace,
    folder: Path,
    environment: Mapping[str, str],
    ends: float,
) -> dict[str, Any]:
    started = time.monotonic()
    limit = min(float(STEPS[step][1]), ends - started)
    if limit < 1:
        return {"step": step, "status": "timeout", "reason": "the five minutes are over"}
    options = {
        "device": arguments.device,
        "quick": arguments.quick,
        "artwork": None if arguments.artwork is None else str(arguments.artwork.resolve()),
        "folder": str(folder),
        # A step that measures for as long as it is given ends before it is killed.
        "seconds": limit - 5,
    }
    with (folder / f"{step}.log").open("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.gpu", "--one-step", step, json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=dict(environment),
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=limit)
            found = _found(output, process.returncode)
        except subprocess.TimeoutExpired:
            found = {"status": "timeout", "reason": f"not done after {limit:.0f} seconds"}
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            found = {**_found(output, None), **found}
        if found["status"] in {"failed", "timeout"}:
            log.seek(0)
            found["last_words"] = [line.strip()[:300] for line in log.read().splitlines()[-6:]]
    return {"step": step, "seconds": round(time.monotonic() - started, 1), **found}


def _found(output: str, code: int | None) -> dict[str, Any]:
    """What a step told; it may tell several times, more each time, and be ended in between."""
    told: dict[str, Any] = {}
    for line in output.splitlines():
        if line.startswith(RESULT_PREFIX):
            told |= json.loads(line.removeprefix(RESULT_PREFIX))
    if code is None or code == 0:
        return {"status": "ok", **told}
    return {**told, "status": "failed", "reason": f"exit code {code}"}


if __name__ == "__main__":
    sys.exit(main())
