"""Bundles beside each other: their work, size, what crosses the cut, and how fast they run.

`python -m benchmarks.models [--threads N] [--seconds S] BUNDLE...` prints a table. Both halves
run in ONNX Runtime on one frame's worth of noise. The bundles take turns, a short while each, so
that a machine that is slower for a minute is slower for all of them; the median turn counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime import InferenceSession

from benchmarks.engines import inputs_of
from common.bundle import Bundle, FixedInput, StretchInput, load_bundle
from common.domain.errors import InvalidInputError
from common.domain.placement import Stage
from common.engines.registry import load_engine

_TURN_SECONDS = 0.5
_WARM_UP_RUNS = 5


@dataclass(frozen=True)
class ModelRow:
    """A bundle in figures.

    Attributes:
        name: of the bundle.
        input_size: height and width, pixels.
        multiply_adds: of a frame, by half.
        bytes: of both halves' files.
        values: that cross the cut, of a frame.
        frames_per_second: through both halves, one after the other.
    """

    name: str
    input_size: tuple[int, int]
    multiply_adds: dict[Stage, int]
    bytes: int
    values: int
    frames_per_second: float


def multiply_adds(path: Path, inputs: dict[str, np.ndarray]) -> int:
    """Count the multiply-adds of a graph's convolutions and matrix products.

    Everything else is left out: norms, activations, softmax, sampling.

    Args:
        path: of an ONNX file.
        inputs: of the sizes to count for.
    """
    model = onnx.load(str(path))
    counted = [node for node in model.graph.node if node.op_type in _COUNTED]
    known = {output.name for output in model.graph.output}
    wanted = {name for node in counted for name in (node.output[0], *node.input[:2])}
    constants = {value.name: tuple(value.dims) for value in model.graph.initializer}
    given = {name: value.shape for name, value in inputs.items()}
    # The runtime itself tells every shape: each tensor becomes an output.
    for name in sorted(wanted - known - constants.keys() - given.keys()):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, inputs)
    shapes = {name: value.shape for name, value in zip(names, found, strict=True)}
    shapes = {**shapes, **constants, **given}
    return sum(_of_node(node, shapes) for node in counted)


_COUNTED = ("Conv", "Gemm", "MatMul")


def _of_node(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    outputs = int(np.prod(shapes[node.output[0]]))
    first, second = (shapes[name] for name in node.input[:2])
    if node.op_type == "Conv":
        return outputs * int(np.prod(second[1:]))  # [out, in / groups, height, width]
    transposed = any(each.name == "transA" and each.i for each in node.attribute)
    return outputs * first[0 if transposed else -1]


def compare(bundles: Sequence[Bundle], threads: int, seconds: float) -> list[ModelRow]:
    """Measure bundles in turns.

    Args:
        bundles: with an input of one size.
        threads: of each engine; 0: as many as there are cores.
        seconds: for each bundle, in all.
    """
    rates = _frames_per_second(bundles, threads, seconds)
    return [_row(bundle, rate) for bundle, rate in zip(bundles, rates, strict=True)]


def _row(bundle: Bundle, rate: float) -> ModelRow:
    policy = bundle.manifest.input
    if not isinstance(policy, FixedInput | StretchInput):
        raise InvalidInputError("a fixed input size is needed")
    inputs = inputs_of(bundle)
    features = {tensor.name for tensor in bundle.manifest.cut}
    return ModelRow(
        name=bundle.manifest.name,
        input_size=(policy.height, policy.width),
        multiply_adds={
            stage: multiply_adds(bundle.onnx_path(stage), inputs[stage]) for stage in inputs
        },
        bytes=sum(bundle.onnx_path(stage).stat().st_size for stage in inputs),
        values=sum(v.size for name, v in inputs[Stage.TRANSFORMER].items() if name in features),
        frames_per_second=rate,
    )


def _frames_per_second(bundles: Sequence[Bundle], threads: int, seconds: float) -> list[float]:
    work = []
    for bundle in bundles:
        inputs = inputs_of(bundle)
        engines = [
            (load_engine("onnxruntime", bundle.onnx_path(stage), threads), given)
            for stage, given in inputs.items()
        ]
        for engine, given in engines * _WARM_UP_RUNS:
            engine.run(given)
        work.append(engines)
    turns: list[list[float]] = [[] for _ in bundles]
    for _ in range(max(1, round(seconds / _TURN_SECONDS))):
        for engines, rates in zip(work, turns, strict=True):
            frames, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < _TURN_SECONDS:
                for engine, given in engines:
                    engine.run(given)
                frames += 1
            rates.append(frames / elapsed)
    return [float(np.median(rates)) for rates in turns]


def table(rows: Sequence[ModelRow]) -> str:
    """Return rows as a table in Markdown; the last column compares with the first row."""
    lines = [
        "| model | input | million multiply-adds: backbone, transformer | MB | values crossing | "
        "frames/s | beside the first |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        millions = [count / 1e6 for count in row.multiply_adds.values()]
        lines.append(
            f"| `{row.name}` | {row.input_size[0]} x {row.input_size[1]} | {sum(millions):.0f}: "
            f"{', '.join(f'{value:.0f}' for value in millions)} | {row.bytes / 1e6:.1f} | "
            f"{row.values:,} | {row.frames_per_second:.0f} | "
            f"{row.frames_per_second / rows[0].frames_per_second:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each bundle")
    options = parser.parse_args()
    bundles = [load_bundle(path) for path in options.bundles]
    sys.stdout.write(table(compare(bundles, options.threads, options.seconds)) + "\n")


if __name__ == "__main__":
    main()
