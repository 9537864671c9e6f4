"""The torch engine: the reference that the other engines are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from torch import nn

from common.bundle import BottleneckPart, DetrManifest, Graph, Manifest, load_bundle
from common.domain.errors import EngineError, TandemError, UnsupportedGraphError
from common.domain.placement import Stage
from common.engines.base import Device, Engine, LoadOptions
from common.engines.operators import beyond_family
from common.engines.reading import model_bytes
from detr.export.bottleneck_parts import part_of
from detr.export.halves import BackboneHalf, TransformerHalf
from detr.model import DETR

DEVICES = (Device.CPU, Device.CUDA)
HALF_PRECISION_DEVICES: frozenset[Device] = frozenset()

TorchDevice = Literal["auto", "cpu", "cuda"]
TorchPrecision = Literal["fp32", "tf32", "bf16"]
"""tf32 and bf16 are for GPUs: products of numbers rounded to 10 and to 7 bits."""

INPUTS: dict[Graph, tuple[str, ...]] = {
    Stage.BACKBONE: ("pixels",),
    Stage.TRANSFORMER: ("features", "pos", "mask"),
    BottleneckPart.ENCODER: ("features",),
    BottleneckPart.DECODER: ("latents",),
}
OUTPUTS: dict[Graph, tuple[str, ...]] = {
    Stage.BACKBONE: ("features",),
    Stage.TRANSFORMER: ("logits", "boxes"),
    BottleneckPart.ENCODER: ("latents",),
    BottleneckPart.DECODER: ("features",),
}


class TorchEngine:
    """One half in torch, on the CPU or on a GPU; see `common.engines.base.Engine`."""

    def __init__(
        self,
        half: nn.Module,
        graph: Graph,
        device: TorchDevice = "auto",
        precision: TorchPrecision = "fp32",
    ) -> None:
        """Put a half that holds its weights on its device.

        Args:
            half: a half of the model, or a part of its bottleneck.
            graph: which of them.
            device: the device to compute on; `auto` is a GPU if there is one.
            precision: the precision to compute in; inputs and outputs are float32 in any case.

        Raises:
            EngineError: there is no such device, or it does not take this precision.
        """
        self._device = _usable(device)
        self._graph = graph
        self._precision = precision
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._pinned: dict[str, torch.Tensor] = {}
        self._half = half.eval()
        if self._device.type == "cuda":
            _set_tf32(precision == "tf32")
            self._half = half.to(self._device, self._dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif precision != "fp32":
            raise EngineError(f"torch computes in fp32 only on the CPU; {precision} is for a GPU")

    @property
    def half(self) -> nn.Module:
        """The module that it runs."""
        return self._half

    @property
    def description(self) -> str:
        """Name, version and device."""
        if self._device.type == "cpu":
            return f"torch {torch.__version__} cpu"
        name = torch.cuda.get_device_name(self._device)
        return f"torch {torch.__version__} cuda ({name}, {self._precision})"

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Execute once; see `common.engines.base.Engine.run`."""
        try:
            tensors = [self._on_device(name, inputs[name]) for name in INPUTS[self._graph]]
            with torch.inference_mode():
                outputs = self._half(*tensors)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise EngineError(f"torch failed: {error!r}") from error
        if isinstance(outputs, torch.Tensor):
            outputs = (outputs,)
        names = OUTPUTS[self._graph]
        try:
            # The first of these copies waits for the GPU.
            arrays = [output.float().contiguous().cpu().numpy() for output in outputs]
        except RuntimeError as error:
            raise EngineError(f"torch failed: {error!r}") from error
        return dict(zip(names, arrays, strict=True))

    def _on_device(self, name: str, array: np.ndarray) -> torch.Tensor:
        # A read-only array (a cached encoding) is copied, since torch has no such tensors.
        tensor = torch.from_numpy(np.require(array, requirements="W"))
        if self._device.type == "cpu":
            return tensor
        pinned = self._pinned.get(name)
        if pinned is None or pinned.shape != tensor.shape:
            # Memory that the GPU reads by itself; `run` ends after that, so it is free again then.
            self._pinned[name] = pinned = torch.empty(tensor.shape, pin_memory=True)
        pinned.copy_(tensor)
        moved = pinned.to(self._device, non_blocking=True).to(self._dtype)
        if moved.dim() == 4:
            moved = moved.contiguous(memory_format=torch.channels_last)
        return moved

    def close(self) -> None:
        """Release the weights."""
        del self._half
        self._pinned.clear()


def _usable(device: TorchDevice) -> torch.device:
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EngineError(
            "torch finds no GPU here: install PyTorch for CUDA and NVIDIA's driver, or choose the "
            "CPU"
        )
    return torch.device("cuda", torch.cuda.current_device())


def _set_tf32(allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_float32_matmul_precision("high" if allowed else "highest")


def load(onnx_path: Path, options: LoadOptions) -> Engine:
    """Rebuild a half from its bundle; see `common.engines.base.EngineModule.load`."""
    device: TorchDevice = "auto"
    if options.device is not Device.AUTO:
        device = "cuda" if options.device is Device.CUDA else "cpu"
    return load_half(onnx_path, options.threads, device, sha256=options.sha256)


def load_half(
    onnx_path: Path,
    threads: int,
    device: TorchDevice = "auto",
    precision: TorchPrecision = "fp32",
    sha256: str | None = None,
) -> TorchEngine:
    """Rebuild a half from its bundle.

    The architecture comes from the `bundle.json` beside the ONNX file, the weights from the
    file's initializers, by name. Threads are torch's, so they hold for the whole process.

    Args:
        onnx_path: the half to run.
        threads: CPU threads; 0 lets torch choose.
        device: the device to compute on; `auto` is a GPU if there is one.
        precision: the precision to compute in.
        sha256: of the file's content that was checked; None: nobody checked it.

    Raises:
        UnsupportedGraphError: the bundle is of another family than DETR.
        EngineError: the file cannot be loaded or has another sha256, or the device or precision
            cannot be had.
    """
    try:
        bundle = load_bundle(onnx_path.parent)
    except TandemError as error:
        raise EngineError(f"torch cannot load {onnx_path}: {error}") from error
    graphs = {f"{graph.value}.onnx": graph for graph in (*Stage, *BottleneckPart)}
    if onnx_path.name not in graphs:
        known = " or ".join(graphs)
        raise EngineError(f"torch cannot load {onnx_path}: its name is not {known}")
    graph = graphs[onnx_path.name]
    content = model_bytes(onnx_path, sha256, "torch")
    try:
        module = _module(graph, bundle.manifest, _initializers(content))
    except UnsupportedGraphError:
        raise
    # DecodeError of the protobuf package, which stays a detail of onnx, is neither of the two.
    except Exception as error:
        raise EngineError(f"torch cannot load {onnx_path}: {error}") from error
    # A part is loaded after its half, and has the half's threads.
    if threads > 0 and isinstance(graph, Stage):
        torch.set_num_threads(threads)
    return TorchEngine(module, graph, device, precision)


def _module(graph: Graph, manifest: Manifest, weights: dict[str, torch.Tensor]) -> nn.Module:
    """Rebuild a half or a part of the bottleneck with its weights."""
    if isinstance(graph, BottleneckPart):
        return part_of(graph, weights)
    if not isinstance(manifest, DetrManifest):
        raise beyond_family(f"torch {torch.__version__}", manifest.name, manifest.family)
    half_class = BackboneHalf if graph is Stage.BACKBONE else TransformerHalf
    half = half_class(DETR(manifest.architecture), manifest.split)
    half.load_state_dict(weights)
    return half


def _initializers(content: bytes) -> dict[str, torch.Tensor]:
    graph = onnx.load_model_from_string(content).graph
    return {
        initializer.name: torch.from_numpy(onnx.numpy_helper.to_array(initializer).copy())
        for initializer in graph.initializer
    }
