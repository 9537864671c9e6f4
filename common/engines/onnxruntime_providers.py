"""The execution providers of ONNX Runtime: which of them drive a device, with what options."""

from __future__ import annotations

import hashlib
import importlib
import sys
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import onnxruntime
import structlog

from common.domain.errors import ConfigurationError, EngineError
from common.engines.base import CompileOptions, Device, LoadOptions, Precision

PROVIDERS: Mapping[Device, str] = {
    Device.CPU: "CPUExecutionProvider",
    Device.CUDA: "CUDAExecutionProvider",
    Device.TENSORRT: "TensorrtExecutionProvider",
    Device.OPENVINO: "OpenVINOExecutionProvider",
}

Provider = Tuple[str, Dict[str, Any]]

_log = structlog.get_logger()

# What AUTO tries, in this order. Not TensorRT, whose first start takes minutes.
_AUTOMATIC = (Device.CUDA, Device.OPENVINO, Device.CPU)
_PACKAGES: Mapping[Device, str] = {
    Device.CUDA: "'tandem-detr[gpu]'",
    Device.TENSORRT: "'tandem-detr[gpu]'",
    Device.OPENVINO: "onnxruntime-openvino",
}


@dataclass(frozen=True)
class Choice:
    """One way to run a half.

    Attributes:
        name: the name of the device, for people.
        device: the device that computes.
        providers: what the session is to use, the most wanted first. ONNX Runtime adds the CPU's
            provider, for operators that the others lack.
    """

    name: str
    device: Device
    providers: Tuple[Provider, ...]

    @property
    def is_on_nvidia_gpu(self) -> bool:
        """Whether the tensors are best kept in a GPU's own memory."""
        return self.device in (Device.CUDA, Device.TENSORRT)


def choices(onnx_path: Path, options: LoadOptions) -> List[Choice]:
    """List the ways to run a half on the device asked for, the best one first.

    Raises:
        ConfigurationError: the onnxruntime installed here lacks the device's provider, and the
            sentence says what to install; or the device compiles, and the shapes were not told.
        EngineError: the file cannot be read.
    """
    if options.device is Device.AUTO:
        devices = [device for device in _AUTOMATIC if _is_installed(device)]
    else:
        _require_installed(options.device)
        devices = [options.device]
    return [choice for device in devices for choice in _choices_on(device, onnx_path, options)]


def load_libraries(choice: Choice) -> None:
    """Load the libraries that a provider needs from pip's packages, if they are installed there.

    The system's loader does not look there. What is still missing shows when the session is made.
    """
    # Since 1.21; it prints what it does not find.
    if choice.is_on_nvidia_gpu and hasattr(onnxruntime, "preload_dlls"):
        with redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()
    if choice.device is Device.TENSORRT:
        with suppress(ImportError):
            importlib.import_module("tensorrt")


def tensorrt_cache(onnx_path: Path, compilation: CompileOptions) -> Path:
    """The folder for what the TensorRT provider compiles of one half with these options.

    The names that the provider gives its files do not depend on the weights, so that halves of two
    bundles would find each other's. The name of the folder depends on everything.

    Raises:
        EngineError: the file cannot be read.
    """
    try:
        key = hashlib.sha256(onnx_path.read_bytes())
    except OSError as error:
        raise EngineError(f"onnxruntime cannot load {onnx_path}: {error.strerror}") from error
    key.update(repr(sorted(compilation.shapes.items())).encode())
    name = f"{onnx_path.stem}-{compilation.precision.value}-{key.hexdigest()[:16]}"
    return compilation.cache / "onnxruntime" / name


def _is_installed(device: Device) -> bool:
    return PROVIDERS[device] in onnxruntime.get_available_providers()


def _require_installed(device: Device) -> None:
    if not _is_installed(device):
        raise ConfigurationError(
            f"the onnxruntime {onnxruntime.__version__} installed here has no "
            f"{PROVIDERS[device]}, which device {device.value} needs; replace it: "
            f"pip uninstall --yes onnxruntime, then pip install {_PACKAGES[device]}"
        )


def _choices_on(device: Device, onnx_path: Path, options: LoadOptions) -> List[Choice]:
    if device is Device.CPU:
        return [Choice("cpu", device, ((PROVIDERS[device], {}),))]
    if device is Device.OPENVINO:
        # It cannot be asked whether this machine has a GPU of Intel's.
        return [_openvino(hardware, options.threads) for hardware in ("GPU", "CPU")]
    cuda: Provider = (PROVIDERS[Device.CUDA], _cuda_options(options))
    if device is Device.CUDA:
        return [Choice("cuda", device, (cuda,))]
    compilation = options.compilation
    if compilation is None:
        raise ConfigurationError(
            "engine 'onnxruntime' on device tensorrt has to be told the shapes of its inputs"
        )
    tensorrt: Provider = (PROVIDERS[device], _tensorrt_options(onnx_path, compilation))
    return [Choice(f"tensorrt {compilation.precision.value}", device, (tensorrt, cuda))]


def _openvino(hardware: str, threads: int) -> Choice:
    options: Dict[str, Any] = {"device_type": hardware}
    if hardware == "CPU" and threads > 0:
        options["num_of_threads"] = str(threads)
    provider: Provider = (PROVIDERS[Device.OPENVINO], options)
    return Choice(f"openvino {hardware.lower()}", Device.OPENVINO, (provider,))


def _cuda_options(options: LoadOptions) -> Dict[str, Any]:
    compilation = options.compilation
    is_fixed = compilation is not None and all(
        shape.min == shape.max for shape in compilation.shapes.values()
    )
    return {
        "device_id": 0,
        # The arena grows by what is asked for. Doubling would take memory that another stage needs.
        "arena_extend_strategy": "kSameAsRequested",
        # Trying every algorithm takes seconds, and again for each new shape.
        "cudnn_conv_algo_search": "EXHAUSTIVE" if is_fixed else "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        # Copies are queued on the stream that computes, so that no events are needed.
        "do_copy_in_default_stream": "1",
        # fp32 means fp32, as in the TensorRT engine.
        "use_tf32": "0",
    }


def _tensorrt_options(onnx_path: Path, compilation: CompileOptions) -> Dict[str, Any]:
    shapes = compilation.shapes
    return {
        "device_id": 0,
        "trt_fp16_enable": compilation.precision is Precision.FP16,
        # Means and variances overflow in fp16.
        "trt_layer_norm_fp32_fallback": True,
        **_cache_options(tensorrt_cache(onnx_path, compilation)),
        "trt_profile_min_shapes": _profile({name: shape.min for name, shape in shapes.items()}),
        "trt_profile_opt_shapes": _profile({name: shape.opt for name, shape in shapes.items()}),
        "trt_profile_max_shapes": _profile({name: shape.max for name, shape in shapes.items()}),
    }


def _cache_options(folder: Path) -> Dict[str, Any]:
    try:
        # The provider would not make the folders above it.
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        # It works all the same; only the next start has to compile again.
        _log.warning("plans not kept", folder=str(folder), reason=error.strerror)
        return {"trt_engine_cache_enable": False, "trt_timing_cache_enable": False}
    return {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        # What is measured of kernels serves every half.
        "trt_timing_cache_path": str(folder.parent),
    }


def _profile(shapes: Mapping[str, Tuple[int, ...]]) -> str:
    """As the provider takes it: `name:1x3x800x1066,name:...`."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
