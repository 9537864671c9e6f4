"""Frames of several streams as one execution: put together, taken apart, and whether that pays."""

from __future__ import annotations

from typing import Dict, List, Mapping, Protocol, Sequence

import numpy as np
import structlog

from common.domain.errors import EngineError

log = structlog.get_logger()

Tensors = Mapping[str, np.ndarray]

# Frames a second of batches over those of single frames, from which batches pay: they make the
# first frames of a batch wait for the others.
LEAST_GAIN = 1.1
# Of each size, at warm-up; the first may plan memory and tune kernels.
_MEASURED_EXECUTIONS = 3


class TestedEngine(Protocol):
    """An engine that can be tried out."""

    async def measure(self, inputs: Tensors, frames: int) -> float:
        """Execute once, and check that the outputs are of so many frames; seconds in the engine."""
        ...


def are_alike(one: Tensors, other: Tensors) -> bool:
    """Whether two frames can be put together: all of their inputs have the same shapes."""
    return one.keys() == other.keys() and all(
        array.shape == other[name].shape for name, array in one.items()
    )


def put_together(frames: Sequence[Tensors]) -> Dict[str, np.ndarray]:
    """The inputs of frames that are alike, one after another along the first dimension."""
    return {name: np.concatenate([each[name] for each in frames]) for name in frames[0]}


def taken_apart(outputs: Tensors, frames: int) -> List[Dict[str, np.ndarray]]:
    """Each frame's own outputs, in the order in which the frames were put together.

    Args:
        outputs: of one execution, by name.
        frames: that were executed.

    Raises:
        EngineError: an output does not consist of so many frames.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != frames:
            raise EngineError(f"output {name} of shape {array.shape} is not of {frames} frames")
    return [
        {name: array[index : index + 1] for name, array in outputs.items()}
        for index in range(frames)
    ]


async def frames_worth_batching(engine: TestedEngine, inputs: Tensors, most_frames: int) -> int:
    """How many frames to execute together at most, as measured; told in the log.

    Args:
        engine: to be measured, and otherwise idle.
        inputs: of one frame of the usual size.
        most_frames: that may be executed together.

    Returns:
        `most_frames` if so many at a time give more frames a second than single ones; else 1, also
        if the engine can execute only one at a time, as with a fixed dimension in its graph.

    Raises:
        EngineError: the engine fails on a single frame.
    """
    alone_seconds = await _quickest_seconds(engine, inputs, 1)
    try:
        batch = put_together([inputs] * most_frames)
        together_seconds = await _quickest_seconds(engine, batch, most_frames)
    except EngineError as error:
        # The frames of clients are none of this: they are executed one at a time, as ever.
        await _quickest_seconds(engine, inputs, 1)
        log.warning("batches are off", reason="the engine takes one frame", error=str(error))
        return 1
    gain = most_frames * alone_seconds / together_seconds
    facts = {
        "frames": most_frames,
        "milliseconds": round(together_seconds * 1e3, 2),
        "milliseconds_of_one": round(alone_seconds * 1e3, 2),
        "gain": round(gain, 2),
    }
    if gain < LEAST_GAIN:
        log.info("batches are off", reason="the engine gains nothing by them", **facts)
        return 1
    log.info("batches are on", **facts)
    return most_frames


async def _quickest_seconds(engine: TestedEngine, inputs: Tensors, frames: int) -> float:
    seconds = [await engine.measure(inputs, frames) for _ in range(_MEASURED_EXECUTIONS)]
    return min(seconds)
