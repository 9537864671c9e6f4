"""Batches: frames are put together for one execution and taken apart, if measuring shows a gain."""

from __future__ import annotations

import asyncio
from typing import Dict, List, Mapping, Protocol, Sequence

import numpy as np
import structlog

from common.domain.errors import EngineError

log = structlog.get_logger()

Tensors = Mapping[str, np.ndarray]

# Batches have to give so many times the frames a second of single frames, because in them the first
# frames wait for the others.
LEAST_GAIN = 1.1
# How often each size is measured; the first execution may plan memory and tune kernels.
_MEASURED_EXECUTIONS = 3


class MeasuredEngine(Protocol):
    """An engine that tells how long an execution took."""

    async def measure(self, inputs: Tensors, frames: int) -> float:
        """Execute so many frames once; returns how long that took, seconds."""
        ...


def are_alike(one: Tensors, other: Tensors) -> bool:
    """Whether two frames can be put together: all of their inputs have the same shapes."""
    return one.keys() == other.keys() and all(
        array.shape == other[name].shape for name, array in one.items()
    )


def put_together(frames: Sequence[Tensors]) -> Dict[str, np.ndarray]:
    """Join the inputs of frames that are alike along the first dimension, in their order."""
    return {name: np.concatenate([each[name] for each in frames]) for name in frames[0]}


def taken_apart(outputs: Tensors, frames: int) -> List[Dict[str, np.ndarray]]:
    """Split the outputs into those of each frame, in the order in which they were put together.

    Args:
        outputs: of one execution, by name.
        frames: how many frames were executed.

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


async def frames_worth_batching(engine: MeasuredEngine, inputs: Tensors, most_frames: int) -> int:
    """Measure how many frames to execute together, and say so in the log.

    Args:
        engine: the engine, which nobody else uses meanwhile.
        inputs: of one frame of the usual size.
        most_frames: how many frames may be executed together; at least 2.

    Returns:
        `most_frames` if batches of that size give enough more frames a second than single frames.
        Otherwise 1, also if the engine can only execute one frame at a time, such as one whose
        graph has a fixed batch dimension.

    Raises:
        EngineError: the engine fails on a single frame.
    """
    alone_seconds = await _quickest_seconds(engine, inputs, 1)
    try:
        # As large as it is, it is not for the event loop.
        putting = asyncio.get_running_loop().run_in_executor
        batch = await putting(None, put_together, [inputs] * most_frames)
        together_seconds = await _quickest_seconds(engine, batch, most_frames)
    # An engine may raise anything, such as for want of memory.
    except Exception as error:
        # Single frames have to work all the same.
        await _quickest_seconds(engine, inputs, 1)
        log.warning(
            "batches are off", reason="the engine takes one frame at a time", error=str(error)
        )
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


async def _quickest_seconds(engine: MeasuredEngine, inputs: Tensors, frames: int) -> float:
    seconds = [await engine.measure(inputs, frames) for _ in range(_MEASURED_EXECUTIONS)]
    return min(seconds)
