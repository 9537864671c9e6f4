"""The torch engine: the reference that the other engines are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from common.bundle import load_bundle
from common.bundle.folder import ONNX_NAMES
from common.domain.errors import EngineError, TandemError
from common.domain.placement import Stage
from common.engines.base import Device, Engine, LoadOptions
from detr.export.halves import BackboneHalf, TransformerHalf
from detr.model import DETR

DEVICES = (Device.CPU,)
HALF_PRECISION_DEVICES: frozenset[Device] = frozenset()

INPUTS = {Stage.BACKBONE: ("pixels",), Stage.TRANSFORMER: ("features", "pos", "mask")}
OUTPUTS = {Stage.BACKBONE: ("features",), Stage.TRANSFORMER: ("logits", "boxes")}


class TorchEngine:
    """One half in torch on the CPU, in fp32; see `common.engines.base.Engine`."""

    def __init__(self, half: nn.Module, stage: Stage) -> None:
        """Wrap a half that holds its weights."""
        self._half = half.eval()
        self._stage = stage

    @property
    def description(self) -> str:
        """Name, version and device."""
        return f"torch {torch.__version__} cpu"

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        try:
            # A read-only array (a cached encoding) is copied, since torch has no such tensors.
            tensors = [
                torch.from_numpy(np.require(inputs[name], requirements="W"))
                for name in INPUTS[self._stage]
            ]
            with torch.inference_mode():
                outputs = self._half(*tensors)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise EngineError(f"torch failed: {error!r}") from error
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        names = OUTPUTS[self._stage]
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}

    def close(self) -> None:
        """Release the weights."""
        del self._half


def load(onnx_path: Path, options: LoadOptions) -> Engine:
    """Rebuild a half from its bundle; see `common.engines.base.EngineModule.load`.

    The architecture comes from the `bundle.json` beside the ONNX file, the weights from the
    file's initializers, by name. Threads are torch's, so they hold for the whole process.
    """
    try:
        bundle = load_bundle(onnx_path.parent)
    except TandemError as error:
        raise EngineError(f"torch cannot load {onnx_path}: {error}") from error
    stages = {name: stage for stage, name in ONNX_NAMES.items()}
    if onnx_path.name not in stages:
        known = " or ".join(stages)
        raise EngineError(f"torch cannot load {onnx_path}: its name is not {known}")
    stage = stages[onnx_path.name]
    half_class = BackboneHalf if stage is Stage.BACKBONE else TransformerHalf
    half = half_class(DETR(bundle.manifest.architecture), bundle.manifest.split)
    try:
        half.load_state_dict(_initializers(onnx_path))
    # DecodeError of the protobuf package, which stays a detail of onnx, is neither of the two.
    except Exception as error:
        raise EngineError(f"torch cannot load {onnx_path}: {error}") from error
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    return TorchEngine(half, stage)


def _initializers(onnx_path: Path) -> dict[str, torch.Tensor]:
    graph = onnx.load(str(onnx_path)).graph
    return {
        initializer.name: torch.from_numpy(onnx.numpy_helper.to_array(initializer).copy())
        for initializer in graph.initializer
    }
