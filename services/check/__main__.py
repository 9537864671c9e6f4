"""`python -m services.check`: load the halves, compare, time, and read the sensors."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List

from common.bundle import load_bundle
from common.domain.errors import TandemError
from common.domain.redaction import fit_to_show
from common.engines.base import Device
from common.telemetry.logs import configure_logs
from common.telemetry.sensors import Reading, find_sensors
from services.check.comparison import (
    HalfCheck,
    check_half,
    compute_reference,
    read_reference,
    write_reference,
)
from services.pipeline.precision import (
    PRECISION_FORM,
    PrecisionWish,
    PrecisionWishes,
    choose_precision,
)
from services.pipeline.shapes import compile_options

PROGRAM = "python -m services.check"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the model")
    parser.add_argument("--engine", default="tensorrt", help="what executes the halves")
    parser.add_argument(
        "--device",
        type=Device,
        metavar="|".join(device.value for device in Device),
        help="where the engine computes; its usual one if left out",
    )
    parser.add_argument(
        "--engine-precision",
        default=PrecisionWish.AUTO.value,
        metavar="PRECISION",
        help=f"what TensorRT computes in: {PRECISION_FORM}",
    )
    parser.add_argument("--engine-cache", type=Path, help="folder for what TensorRT compiled")
    parser.add_argument(
        "--write-reference",
        type=Path,
        metavar="FILE",
        help="only write what ONNX Runtime computes, for a device without it",
    )
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="compare with this instead of ONNX Runtime"
    )
    parser.add_argument("--json", action="store_true", help="write one line of JSON")
    return parser.parse_args()


def _sentence(check: HalfCheck) -> str:
    verdict = "good" if check.is_good else "TOO DIFFERENT"
    return (
        f"{check.graph.value}: {check.engine}; loaded in {check.load_seconds:.1f} s; "
        f"{check.milliseconds:.1f} ms an execution; relative error {check.relative_error:.2e}, "
        f"at most {check.bound:g}: {verdict}"
    )


def _as_json(checks: List[HalfCheck], readings: List[Reading]) -> Dict[str, Any]:
    return {
        "halves": [_check_as_json(check) for check in checks],
        "sensors": [
            {"kind": reading.kind.name.lower(), "name": reading.name, "value": reading.value}
            for reading in readings
        ],
    }


def _check_as_json(check: HalfCheck) -> Dict[str, Any]:
    facts = asdict(check)
    return {"stage": facts.pop("graph").value, **facts, "good": check.is_good}


def _run(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(arguments.bundle)
    if arguments.write_reference is not None:
        write_reference(arguments.write_reference, bundle, compute_reference(bundle))
        return 0
    reference = (
        compute_reference(bundle)
        if arguments.reference is None
        else read_reference(arguments.reference, bundle)
    )
    checks = []
    wishes = PrecisionWishes.parse(arguments.engine_precision)
    for graph in bundle.graphs:
        chosen = choose_precision(
            bundle.manifest, graph, wishes, arguments.engine, arguments.device
        )
        options = compile_options(bundle.manifest, graph, chosen.precision, arguments.engine_cache)
        check = check_half(
            bundle, graph, arguments.engine, options, reference[graph], device=arguments.device
        )
        checks.append(check)
        if not arguments.json:
            sys.stdout.write(_sentence(check) + "\n")
            sys.stdout.flush()
    _show(checks, as_json=arguments.json)
    return 0 if all(check.is_good for check in checks) else 1


def _show(checks: List[HalfCheck], *, as_json: bool) -> None:
    readings = [reading for sensor in find_sensors() for reading in sensor.read()]
    if as_json:
        sys.stdout.write(json.dumps(_as_json(checks, readings)) + "\n")
        return
    for reading in readings:
        name = f"{reading.kind.name.lower()} {reading.name}"
        sys.stdout.write(f"{name}: {reading.value:g} {reading.kind.value}\n")


def _main() -> None:
    arguments = _arguments()
    configure_logs("auto", "info")
    try:
        code = _run(arguments)
    except (TandemError, OSError) as error:
        sys.stderr.write(f"{PROGRAM}: {fit_to_show(str(error))}\n")
        code = 2
    raise SystemExit(code)


if __name__ == "__main__":
    _main()
