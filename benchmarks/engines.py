"""The engines alone, in a loop: no frame, no codec, no network.

`python -m benchmarks.engines BUNDLE SECONDS STAGE...` runs the stages' engines one
after another on one core, over and over, and prints the mean milliseconds of one round. It waits
for a line on standard input before it begins, so that several start together.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.hosts import ROOT, Host
from common.bundle import Bundle, ShortestEdgeInput, load_bundle
from common.domain.errors import InvalidInputError, ServiceError
from common.domain.frames import FrameGeometry
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.position import inputs_beside_cut

_WARM_UP_RUNS = 2


async def alone_ms(bundle: Path, seconds: float, *loops: tuple[Host, list[Stage]]) -> list[float]:
    """Run each host's loop of engines, all at the same time.

    Returns:
        Mean milliseconds of a round of each loop.

    Raises:
        ServiceError: one failed.
    """
    module = "benchmarks.engines"
    processes = []
    for host, stages in loops:
        arguments = [str(bundle), str(seconds), *(stage.value for stage in stages)]
        processes.append(
            await asyncio.create_subprocess_exec(
                *host.command(module, arguments),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
    for process in processes:
        if process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise ServiceError("an engine did not load")
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    return [float(output) for output, _ in outputs]


def main() -> None:
    """Load, wait, loop, print."""
    folder, seconds, *stages = sys.argv[1:]
    bundle = load_bundle(folder)
    inputs = inputs_of(bundle)
    work = [
        (load_engine("onnxruntime", bundle.onnx_path(Stage(name)), 1), inputs[Stage(name)])
        for name in stages
    ]
    for engine, given in work * _WARM_UP_RUNS:
        engine.run(given)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    rounds, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < float(seconds):
        for engine, given in work:
            engine.run(given)
        rounds += 1
    sys.stdout.write(f"{1000 * elapsed / rounds}\n")


def inputs_of(bundle: Bundle) -> dict[Stage, dict[str, np.ndarray]]:
    """Return inputs of each half, noise of the bundle's size.

    Raises:
        InvalidInputError: its input is of no one size.
    """
    manifest = bundle.manifest
    if isinstance(manifest.input, ShortestEdgeInput):
        raise InvalidInputError("a fixed input size is needed")
    height, width = manifest.input.height, manifest.input.width
    random = np.random.default_rng(0)
    geometry = FrameGeometry(height, width, height, width, height, width)
    features = {
        tensor.name: random.standard_normal(
            (1, tensor.channels, *tensor.grid(height, width)), dtype=np.float32
        )
        for tensor in manifest.cut
    }
    pixels = random.standard_normal((1, 3, height, width), dtype=np.float32)
    return {
        Stage.BACKBONE: {"pixels": pixels},
        Stage.TRANSFORMER: {**features, **inputs_beside_cut(manifest, geometry)},
    }


if __name__ == "__main__":
    main()
