"""Reads the very bytes of a model that were checked."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

from common.domain.errors import EngineError


def model_bytes(onnx_path: Path, sha256: Optional[str], engine: str) -> bytes:
    """The content of a model's file, which the engine then loads without reading it again.

    Args:
        onnx_path: the file.
        sha256: of the content that was checked; None: nobody did.
        engine: that loads it, for errors.

    Raises:
        EngineError: the file cannot be read, or is not what was checked any more.
    """
    try:
        content = onnx_path.read_bytes()
    except OSError as error:
        raise EngineError(f"{engine} cannot load {onnx_path}: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise EngineError(f"{engine} cannot load {onnx_path}: the file has just been changed")
    return content


@contextmanager
def file_in_memory(content: bytes) -> Iterator[str]:
    """The path, for this process, of a file that holds these bytes and lies on no disk.

    It is for engines that read a file beside Python's other threads, but hold all of them up while
    they take bytes.

    Raises:
        OSError: there is no memory for it.
    """
    descriptor = os.memfd_create("model", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        del content
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
