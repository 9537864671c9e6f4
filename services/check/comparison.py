"""Does an engine compute on this device what ONNX Runtime computes, and how fast?"""

from __future__ import annotations

import statistics
import time
import zipfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Mapping, Optional

import numpy as np

from common.bundle import BottleneckPart, Bundle, Graph, SigmoidScoring
from common.domain.errors import ConfigurationError
from common.domain.frames import FrameGeometry
from common.domain.placement import Stage
from common.engines.base import CompileOptions, Device, Engine, Precision
from common.engines.registry import load_engine
from common.files import replacing
from common.vision.position import inputs_beside_cut
from services.check.queries import matched_queries
from services.pipeline.shapes import typical_size

REFERENCE = "onnxruntime"
BOUNDS = {Precision.FP32: 1e-3, Precision.FP16: 2e-2}
"""Largest `relative_error` of each precision. Rounding the demo's weights and activations to fp16,
but for the layers that stay in fp32, gives 1.5e-3; sums in fp16 and deeper models give more."""

Tensors = Mapping[str, np.ndarray]

_SEED = 20200526
_DIGEST = "bundle_digest"
_EXECUTIONS = 50


@dataclass(frozen=True)
class HalfCheck:
    """The result of checking one half, or one part of the bottleneck, on one engine.

    Attributes:
        graph: which half or part.
        engine: the engine's description.
        load_seconds: how long loading took, which may include compiling.
        milliseconds: the median time of one execution at the bundle's usual size, copies included.
        relative_error: the largest of its outputs' errors; see `BOUNDS`.
        bound: the largest error allowed.
    """

    graph: Graph
    engine: str
    load_seconds: float
    milliseconds: float
    relative_error: float
    bound: float

    @property
    def is_good(self) -> bool:
        """Whether the error is within its bound; one that is not a number is not."""
        return self.relative_error <= self.bound


@dataclass(frozen=True)
class HalfReference:
    """Inputs of a half or a part, and what ONNX Runtime makes of them; arrays by name."""

    inputs: Tensors
    outputs: Tensors


def compute_reference(bundle: Bundle) -> Dict[Graph, HalfReference]:
    """Run all that a bundle has for engines in ONNX Runtime, on one input of its usual size.

    The input is noise with the statistics of a normalised picture. Where the transformer takes a
    mask, the last quarter of its width is padding, so that the mask matters. The transformer, and
    the bottleneck's encoder, get the features that the backbone computes, and the bottleneck's
    decoder the encoder's latents.

    Raises:
        ConfigurationError: the bundle is damaged, or ONNX Runtime is not installed.
    """
    manifest = bundle.manifest
    height, width = typical_size(manifest.input)
    valid_width = width if manifest.position_channels is None else width - width // 4
    pixels = np.zeros((1, 3, height, width), np.float32)
    shape = (1, 3, height, valid_width)
    random = np.random.default_rng(_SEED)
    pixels[..., :valid_width] = random.standard_normal(shape, dtype=np.float32)
    backbone = _run(bundle, Stage.BACKBONE, {"pixels": pixels})
    geometry = FrameGeometry(height, valid_width, height, width, height, valid_width)
    inputs = {**backbone.outputs, **inputs_beside_cut(manifest, geometry)}
    halves: Dict[Graph, HalfReference] = {
        Stage.BACKBONE: backbone,
        Stage.TRANSFORMER: _run(bundle, Stage.TRANSFORMER, inputs),
    }
    if manifest.bottleneck is None:
        return halves
    encoder = _run(bundle, BottleneckPart.ENCODER, backbone.outputs)
    decoder = _run(bundle, BottleneckPart.DECODER, dict(encoder.outputs))
    return {**halves, BottleneckPart.ENCODER: encoder, BottleneckPart.DECODER: decoder}


def write_reference(path: Path, bundle: Bundle, reference: Mapping[Graph, HalfReference]) -> None:
    """Write a reference to an `.npz` file, for a device without ONNX Runtime."""
    arrays: Dict[str, np.ndarray] = {_DIGEST: np.array(bundle.digest)}
    for graph, half in reference.items():
        arrays.update({f"{graph.value}/in/{name}": one for name, one in half.inputs.items()})
        arrays.update({f"{graph.value}/out/{name}": one for name, one in half.outputs.items()})
    with replacing(path) as beside, beside.open("wb") as file:
        # numpy's stubs take any keyword for its option allow_pickle.
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_reference(path: Path, bundle: Bundle) -> Dict[Graph, HalfReference]:
    """Read what `write_reference` wrote.

    Raises:
        ConfigurationError: the file cannot be read, or is of another bundle.
    """
    try:
        with np.load(str(path), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"cannot read the reference {path}: {error}") from error
    digest = str(arrays.get(_DIGEST, "nothing known"))
    if digest != bundle.digest:
        raise ConfigurationError(f"{path} is of bundle {digest}, not of {bundle.digest}")

    def arrays_of(graph: Graph, side: str) -> Dict[str, np.ndarray]:
        prefix = f"{graph.value}/{side}/"
        return {n[len(prefix) :]: one for n, one in arrays.items() if n.startswith(prefix)}

    return {
        graph: HalfReference(arrays_of(graph, "in"), arrays_of(graph, "out"))
        for graph in bundle.graphs
    }


def check_half(
    bundle: Bundle,
    graph: Graph,
    engine: str,
    options: CompileOptions,
    reference: HalfReference,
    *,
    device: Optional[Device] = None,
) -> HalfCheck:
    """Load a half or a part, compare it with the reference, and time it.

    Args:
        bundle: the model.
        graph: which half or part.
        engine: name of the engine.
        options: for the engines that compile ahead.
        reference: the inputs, and the outputs to compare with.
        device: where the engine computes; None for the engine's usual one.

    Raises:
        ConfigurationError: the bundle is damaged, or the engine is not installed.
        EngineError: the engine cannot load or run the half.
    """
    path = bundle.onnx_path(graph)
    sha256 = bundle.sha256(path.name)
    started = time.perf_counter()
    with closing(load_engine(engine, path, 0, options, device, sha256=sha256)) as loaded:
        load_seconds = time.perf_counter() - started
        outputs: Tensors = loaded.run(reference.inputs)
        seconds = [_timed(loaded, reference.inputs) for _ in range(_EXECUTIONS)]
        expected = reference.outputs
        if graph is Stage.TRANSFORMER and isinstance(bundle.manifest.scoring, SigmoidScoring):
            outputs, expected = matched_queries(outputs, expected)
        return HalfCheck(
            graph=graph,
            engine=loaded.description,
            load_seconds=load_seconds,
            milliseconds=statistics.median(seconds) * 1000,
            relative_error=largest_error(outputs, expected),
            bound=BOUNDS[options.precision],
        )


def largest_error(outputs: Tensors, reference: Tensors) -> float:
    """The largest `relative_error` of any output; no number if one of them is none."""
    # Python's own max passes over a NaN that is not the first.
    return float(np.max([relative_error(outputs[name], one) for name, one in reference.items()]))


def relative_error(array: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square of the difference, over the reference's standard deviation."""
    exact = reference.astype(np.float64)
    return float(np.sqrt(np.square(array - exact).mean()) / exact.std())


def _timed(engine: Engine, inputs: Tensors) -> float:
    started = time.perf_counter()
    engine.run(inputs)
    return time.perf_counter() - started


def _run(bundle: Bundle, graph: Graph, inputs: Tensors) -> HalfReference:
    with closing(load_engine(REFERENCE, bundle.onnx_path(graph), 0)) as engine:
        return HalfReference(inputs, engine.run(inputs))
