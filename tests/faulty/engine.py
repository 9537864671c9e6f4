"""ONNX Runtime, but for what the file named by FAULTY_ENGINE says at each execution.

Its words are `WHAT:ACTION`. WHAT is `every` execution, one of a `white` picture, one of a `part`
of the bottleneck, one of what was loaded `last`, or with `after3` one that begins after three
others have since the words were first read; ACTION is
`fail`, `memory` (MemoryError), `nan` (outputs that are not finite), `exit`, or `hang` until the
file says otherwise. `load:hang` hangs while loading, `load:fail` fails to, and `load:single` loads
for single frames only, as a compiler does with a graph of a fixed batch. `has:Sigmoyd` is an engine
that has an operator which ONNX Runtime lacks: it computes what that has in place of it.

The files `loading` and `hanging` beside it tell that loading, or an execution, hangs.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.domain.errors import EngineError
from common.engines import onnxruntime
from common.engines.base import Device, LoadOptions

DEVICES = (Device.CPU,)
HALF_PRECISION_DEVICES = frozenset()

# Every channel of white is above this after normalisation.
WHITE = 2.2


class FaultyEngine:
    # How many were loaded.
    count = 0
    # The latest words, and how many executions have begun since these were first read.
    words = ""
    begun = 0

    def __init__(self, engine, file: Path) -> None:
        self._engine = engine
        self._file = file
        FaultyEngine.count += 1
        self._number = FaultyEngine.count

    @property
    def description(self) -> str:
        return f"faulty {self._engine.description}"

    def run(self, inputs):
        words = told(self._file)
        if words != FaultyEngine.words:
            FaultyEngine.words, FaultyEngine.begun = words, 0
        FaultyEngine.begun += 1
        what, _, action = words.partition(":")
        is_meant = {
            "every": True,
            "white": is_white(inputs),
            "part": is_of_a_part(inputs),
            "last": self._number == FaultyEngine.count,
        }
        if what.startswith("after"):
            is_meant[what] = FaultyEngine.begun > int(what[len("after") :])
        if is_meant.get(what, False):
            if action == "fail":
                raise EngineError("sticky error at 0xdead")
            if action == "memory":
                raise MemoryError
            if action == "exit":
                os._exit(3)
            if action == "hang":
                self._file.with_name("hanging").touch()
                hang_while(self._file, words)
            if action == "nan":
                return {n: np.full_like(a, np.nan) for n, a in self._engine.run(inputs).items()}
        return self._engine.run(inputs)

    def close(self) -> None:
        self._engine.close()


def told(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def hang_while(file: Path, words: str) -> None:
    while told(file) == words:
        time.sleep(0.02)


def is_white(inputs) -> bool:
    """Whether any frame of a batch is white."""
    if "pixels" not in inputs:
        return False
    return bool((inputs["pixels"][:, :, :32, :32] > WHITE).all(axis=(1, 2, 3)).any())


def is_of_a_part(inputs) -> bool:
    """Whether a part of the bottleneck is executed; the halves have other inputs."""
    return set(inputs) in ({"features"}, {"latents"})


def with_known_operators(onnx_path: Path, file: Path) -> Path:
    """A copy of a graph with operators that ONNX Runtime has; names are as long as before."""
    known = onnx_path.read_bytes().replace(b"Sigmoyd", b"Sigmoid")
    copy = file.with_name(onnx_path.name)
    copy.write_bytes(known)
    return copy


def load(onnx_path: Path, options: LoadOptions) -> FaultyEngine:
    file = Path(os.environ["FAULTY_ENGINE"])
    if told(file) == "load:hang":
        file.with_name("loading").touch()
        hang_while(file, "load:hang")
    if told(file) == "load:fail":
        raise EngineError("no device")
    if told(file).startswith("has:"):
        onnx_path, options = with_known_operators(onnx_path, file), replace(options, sha256=None)
    shapes = {} if options.compilation is None else options.compilation.shapes
    if told(file) == "load:single" and any(shape.max[0] > 1 for shape in shapes.values()):
        raise EngineError("the batch is fixed")
    return FaultyEngine(onnxruntime.load(onnx_path, options), file)
