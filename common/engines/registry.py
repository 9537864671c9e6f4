"""Names of engines to the modules that hold them.

Modules are imported only when their engine is asked for, so that a device needs to have
installed the one it uses and no other (and so that torch stays out of the services).
"""

from __future__ import annotations

import importlib
from pathlib import Path

from common.domain.errors import ConfigurationError
from common.engines.base import Engine

ENGINE_MODULES = {
    "onnxruntime": "common.engines.onnxruntime",
    "openvino": "common.engines.openvino",
    "torch": "detr.engine",
    "none": "common.engines.none",
}


def load_engine(name: str, onnx_path: Path, threads: int) -> Engine:
    """Load a half of a model on the named engine.

    Raises:
        ConfigurationError: no engine has this name, or its package is not installed.
        EngineError: the engine cannot load the file.
    """
    if name not in ENGINE_MODULES:
        known = ", ".join(ENGINE_MODULES)
        raise ConfigurationError(f"unknown engine {name!r}; known engines: {known}")
    try:
        module = importlib.import_module(ENGINE_MODULES[name])
    except ImportError as error:
        raise ConfigurationError(f"engine {name!r} is not installed here: {error}") from error
    return module.load(onnx_path, threads)  # type: ignore[no-any-return]
