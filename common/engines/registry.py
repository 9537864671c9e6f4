"""Finds an engine by its name.

The module of an engine is imported only when the engine is asked for, so that a machine needs no
other engine's package. Installed packages can add engines as entry points of the group
`tandem.engines`, from the engine's name to the name of its module, which has to be a
`common.engines.base.EngineModule`. This project does so for torch, which `common` may not import.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from pathlib import Path
from typing import Dict, Iterable, Optional, cast

from common.domain.errors import ConfigurationError
from common.engines.base import (
    CompileOptions,
    Device,
    Engine,
    EngineModule,
    LoadOptions,
    Precision,
)

ENTRY_POINT_GROUP = "tandem.engines"

_BUILT_IN = {
    "onnxruntime": "common.engines.onnxruntime",
    "openvino": "common.engines.openvino",
    "tensorrt": "common.engines.tensorrt.engine",
    "none": "common.engines.none",
}
# Of an `EngineModule`.
_PARTS = ("DEVICES", "HALF_PRECISION_DEVICES", "load")


def load_engine(
    name: str,
    onnx_path: Path,
    threads: int,
    options: Optional[CompileOptions] = None,
    device: Optional[Device] = None,
    *,
    sha256: Optional[str] = None,
) -> Engine:
    """Load a half of a model on the named engine.

    Args:
        name: the name of the engine.
        onnx_path: the half to run.
        threads: the number of CPU threads of one execution, for engines that run on the CPU; 0 lets
            the engine choose.
        options: what engines that compile have to know. The others only refuse a precision that
            they do not compute in.
        device: where to compute; None for the engine's first device, which is the CPU for all
            engines but TensorRT.
        sha256: of the file's content that was checked; another is refused. None: nobody checked it.

    Raises:
        ConfigurationError: no engine has this name, its package or what the device needs is not
            installed, or the options do not fit it.
        EngineError: the engine cannot load the file, the file is not what was checked, or the
            device does not work.
    """
    module = engine_module(name)
    chosen = _usable_device(name, module, device)
    if options is not None:
        _require_precision(name, module, chosen, options.precision)
    return module.load(onnx_path, LoadOptions(threads, chosen, options, sha256))


def computes_in(name: str, device: Optional[Device], precision: Precision) -> bool:
    """Whether the named engine computes in a precision on a device; None is its usual one.

    Raises:
        ConfigurationError: no engine has this name, its package is not installed, or it has no such
            device.
    """
    module = engine_module(name)
    return _can_compute(module, _usable_device(name, module, device), precision)


def engine_module(name: str) -> EngineModule:
    """Import the module of the named engine.

    Raises:
        ConfigurationError: no engine has this name, its package is not installed, or its module
            holds no engine.
    """
    modules = engine_modules()
    if name not in modules:
        known = ", ".join(modules)
        raise ConfigurationError(f"unknown engine {name!r}; known engines: {known}")
    try:
        module = importlib.import_module(modules[name])
    except ImportError as error:
        raise ConfigurationError(f"engine {name!r} is not installed here: {error}") from error
    missing = [part for part in _PARTS if not hasattr(module, part)]
    if missing:
        raise ConfigurationError(
            f"engine {name!r} cannot be used: {modules[name]} has no {', '.join(missing)}"
        )
    return cast(EngineModule, module)


def engine_modules() -> Dict[str, str]:
    """The names of all engines' modules, by engine; no package can replace a built-in one."""
    added = {point.name: point.value for point in _entry_points() if point.name not in _BUILT_IN}
    return {**_BUILT_IN, **added}


def _entry_points() -> Iterable[metadata.EntryPoint]:
    if sys.version_info >= (3, 10):
        return metadata.entry_points(group=ENTRY_POINT_GROUP)
    return metadata.entry_points().get(ENTRY_POINT_GROUP, ())


def _usable_device(name: str, module: EngineModule, device: Optional[Device]) -> Device:
    if device is None or (device is Device.AUTO and len(module.DEVICES) == 1):
        return module.DEVICES[0]
    if device is not Device.AUTO and device not in module.DEVICES:
        known = ", ".join(each.value for each in module.DEVICES)
        raise ConfigurationError(
            f"engine {name!r} does not compute on {device.value}; its devices: {known}"
        )
    return device


def _require_precision(
    name: str, module: EngineModule, device: Device, precision: Precision
) -> None:
    if _can_compute(module, device, precision):
        return
    raise ConfigurationError(
        f"engine {name!r} computes in fp32 only on {device.value}; {precision.value} is for engine "
        "'tensorrt' up to TensorRT 10, and for engine 'onnxruntime' on device tensorrt"
    )


def _can_compute(module: EngineModule, device: Device, precision: Precision) -> bool:
    return precision is Precision.FP32 or device in module.HALF_PRECISION_DEVICES
