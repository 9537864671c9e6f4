"""Names of engines to the modules that hold them.

Modules are imported only when their engine is asked for, so that a device needs to have
installed the one it uses and no other (and so that torch stays out of the services).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Optional

from common.domain.errors import ConfigurationError
from common.engines.base import CompileOptions, Engine, Precision

ENGINE_MODULES = {
    "onnxruntime": "common.engines.onnxruntime",
    "openvino": "common.engines.openvino",
    "torch": "detr.engine",
    "none": "common.engines.none",
    "tensorrt": "common.engines.tensorrt.engine",
}
# Their modules' `load` is a `CompilingLoader`; that of the others an `EngineLoader`.
COMPILING_ENGINES = frozenset({"tensorrt"})


def load_engine(
    name: str, onnx_path: Path, threads: int, options: Optional[CompileOptions] = None
) -> Engine:
    """Load a half of a model on the named engine.

    Args:
        name: of the engine.
        onnx_path: the half to run.
        threads: CPU threads within one execution, for the engines that run on the CPU; 0 lets the
            engine choose.
        options: for the engines that compile ahead; the others have no use for the shapes and the
            cache, and refuse any precision but fp32.

    Raises:
        ConfigurationError: no engine has this name, its package is not installed, or the options
            do not fit it.
        EngineError: the engine cannot load the file.
    """
    module = engine_module(name)
    if name in COMPILING_ENGINES:
        if options is None:
            raise ConfigurationError(f"engine {name!r} has to be told the shapes of its inputs")
        return module.load(onnx_path, options)  # type: ignore[no-any-return]
    if options is not None and options.precision is not Precision.FP32:
        compiling = ", ".join(sorted(COMPILING_ENGINES))
        raise ConfigurationError(
            f"engine {name!r} has no choice of precision; {options.precision.value} is for "
            f"{compiling}"
        )
    return module.load(onnx_path, threads)  # type: ignore[no-any-return]


def engine_module(name: str) -> Any:
    """Import the module of the named engine.

    Raises:
        ConfigurationError: no engine has this name, or its package is not installed.
    """
    if name not in ENGINE_MODULES:
        known = ", ".join(ENGINE_MODULES)
        raise ConfigurationError(f"unknown engine {name!r}; known engines: {known}")
    try:
        return importlib.import_module(ENGINE_MODULES[name])
    except ImportError as error:
        raise ConfigurationError(f"engine {name!r} is not installed here: {error}") from error
