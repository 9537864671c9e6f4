"""The execution providers of ONNX Runtime: which one drives a device, and its options."""

from __future__ import annotations

import hashlib
import importlib
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import onnxruntime

from common.domain.errors import ConfigurationError
from common.engines.base import CompileOptions, Device, LoadOptions, Precision

PROVIDERS: Mapping[Device, str] = {
    Device.CPU: "CPUExecutionProvider",
    Device.CUDA: "CUDAExecutionProvider",
    Device.TENSORRT: "TensorrtExecutionProvider",
    Device.OPENVINO: "OpenVINOExecutionProvider",
}
AUTOMATIC = (Device.CUDA, Device.OPENVINO, Device.CPU)
"""What AUTO tries, in this order. Not TensorRT, whose first start takes minutes."""

Provider = Tuple[str, Dict[str, Any]]

_PACKAGES: Mapping[Device, str] = {
    Device.CUDA: "'tandem-detr[gpu]'",
    Device.TENSORRT: "'tandem-detr[gpu]'",
    Device.OPENVINO: "onnxruntime-openvino",
}


def is_installed(device: Device) -> bool:
    """Whether the onnxruntime installed here was built with the device's provider."""
    return PROVIDERS[device] in onnxruntime.get_available_providers()


def require_installed(device: Device) -> None:
    """Refuse a device whose provider the onnxruntime installed here lacks.

    Raises:
        ConfigurationError: it lacks it; the sentence says what to install.
    """
    if not is_installed(device):
        raise ConfigurationError(
            f"the onnxruntime {onnxruntime.__version__} installed here has no "
            f"{PROVIDERS[device]}, which device {device.value} needs; replace it: "
            f"pip uninstall --yes onnxruntime, then pip install {_PACKAGES[device]}"
        )


def providers(device: Device, onnx_path: Path, options: LoadOptions) -> List[Provider]:
    """What a session is given for a device, the most wanted provider first.

    Every list ends with the CPU's provider, which ONNX Runtime adds in any case: it computes the
    shapes of tensors, and what operators the others lack.

    Raises:
        ConfigurationError: the device compiles ahead, and the shapes were not told.
    """
    cpu: Provider = (PROVIDERS[Device.CPU], {})
    if device is Device.CPU:
        return [cpu]
    if device is Device.OPENVINO:
        return [(PROVIDERS[device], _openvino_options(options)), cpu]
    cuda: Provider = (PROVIDERS[Device.CUDA], _cuda_options(options))
    if device is Device.CUDA:
        return [cuda, cpu]
    if options.compilation is None:
        raise ConfigurationError(
            "engine 'onnxruntime' on device tensorrt has to be told the shapes of its inputs"
        )
    return [(PROVIDERS[device], _tensorrt_options(onnx_path, options.compilation)), cuda, cpu]


def load_libraries(device: Device) -> None:
    """Load the libraries that a provider links against from pip's packages, where they are.

    The system's loader does not look there. What is missing shows when the session is made.
    """
    if device not in (Device.CUDA, Device.TENSORRT):
        return
    # Since 1.21; it prints what it does not find.
    if hasattr(onnxruntime, "preload_dlls"):
        with redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()
    if device is Device.TENSORRT:
        with suppress(ImportError):
            importlib.import_module("tensorrt")


def _cuda_options(options: LoadOptions) -> Dict[str, Any]:
    compilation = options.compilation
    is_fixed = compilation is not None and all(
        shape.min == shape.max for shape in compilation.shapes.values()
    )
    return {
        "device_id": 0,
        # Grown by what is asked for: two stages share the card, and doubling takes what they need.
        "arena_extend_strategy": "kSameAsRequested",
        # Trying every algorithm takes seconds, and again for each new shape.
        "cudnn_conv_algo_search": "EXHAUSTIVE" if is_fixed else "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        # Copies on the stream that computes, so that neither has to wait for the other.
        "do_copy_in_default_stream": "1",
        # fp32 means fp32, as in the TensorRT engine.
        "use_tf32": "0",
    }


def _tensorrt_options(onnx_path: Path, compilation: CompileOptions) -> Dict[str, Any]:
    folder = tensorrt_cache(onnx_path, compilation)
    return {
        "device_id": 0,
        "trt_fp16_enable": compilation.precision is Precision.FP16,
        # Means and variances overflow in fp16.
        "trt_layer_norm_fp32_fallback": True,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(folder.parent),
        "trt_profile_min_shapes": _profile({n: s.min for n, s in compilation.shapes.items()}),
        "trt_profile_opt_shapes": _profile({n: s.opt for n, s in compilation.shapes.items()}),
        "trt_profile_max_shapes": _profile({n: s.max for n, s in compilation.shapes.items()}),
    }


def tensorrt_cache(onnx_path: Path, compilation: CompileOptions) -> Path:
    """The folder of what the TensorRT provider compiled of one half for these options.

    The provider's own names tell neither weights nor shapes nor precision apart, so that halves of
    two bundles would find each other's.
    """
    key = hashlib.sha256(onnx_path.read_bytes())
    key.update(repr(sorted(compilation.shapes.items())).encode())
    name = f"{onnx_path.stem}-{compilation.precision.value}-{key.hexdigest()[:16]}"
    return compilation.cache / "onnxruntime" / name


def _profile(shapes: Mapping[str, Tuple[int, ...]]) -> str:
    """As the provider takes it: `name:1x3x800x1066,name:...`."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def _openvino_options(options: LoadOptions) -> Dict[str, Any]:
    # OpenVINO's own choice among what it finds: an Intel GPU before the CPU.
    chosen: Dict[str, Any] = {"device_type": "AUTO"}
    if options.threads > 0:
        chosen["num_of_threads"] = str(options.threads)
    return chosen
