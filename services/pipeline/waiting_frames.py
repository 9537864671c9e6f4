"""The frames that wait for an engine: given out in turn, one or a batch at a time."""

from __future__ import annotations

import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Dict, Hashable, List, Mapping, Optional, Protocol, Sequence, Set, Union

import numpy as np

from services.pipeline.batches import are_alike
from services.pipeline.turns import Turns

_MOST_FAILING_STREAMS = 64


@dataclass(frozen=True)
class ExecutedFrame:
    """What the engine made of one frame, and when.

    Attributes:
        outputs: arrays by output name.
        started: when the execution of this frame began, by `time.perf_counter`.
        queue_seconds: from being ready to the start of the execution, and while the engine was at
            the other frames of the same batch.
        execute_seconds: in the engine; of a batch, the frame's equal share.
    """

    outputs: Dict[str, np.ndarray]
    started: float
    queue_seconds: float
    execute_seconds: float


Outcome = Union[ExecutedFrame, BaseException]


class EngineFrame(Protocol):
    """A frame on its way to the engine and from there."""

    @property
    def stream(self) -> Hashable:
        """Whose turn it takes."""
        ...

    @property
    def tensors(self) -> Mapping[str, np.ndarray]:
        """The engine's inputs by name."""
        ...

    @property
    def ready_at(self) -> Optional[float]:
        """Since when the tensors are there, by `time.perf_counter`; None: they are not yet."""
        ...

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it; if not, it is left out when its turn comes."""
        ...

    def executed(self, outcome: Outcome) -> None:
        """Take what the engine made of it, or what that raised; on the engine's thread.

        The next execution waits for this, so it must neither take time nor make a system call,
        which would give the GIL away.
        """
        ...


@dataclass(frozen=True)
class BatchLimits:
    """How many frames may be executed together, and how long the first may wait for the others.

    Attributes:
        frames: at most; 1: every frame is executed alone.
        wait_seconds: at most; 0: only frames that are ready at the same moment are put together.
    """

    frames: int = 1
    wait_seconds: float = 0.0


class WaitingFrames:
    """Frames of many streams on their way to one engine; each stream keeps its order.

    A batch has one frame at most of each stream, so that turns stay turns and a lone stream never
    waits for a second frame of its own. Any thread may add frames; one takes them.
    """

    def __init__(self) -> None:
        """Nothing waits yet."""
        self._turns: Turns[EngineFrame] = Turns()
        # While frames are waited for: one for each that has become ready meanwhile.
        self._is_gathering = False
        self._arrivals: SimpleQueue[None] = SimpleQueue()
        # Streams whose latest frame failed: what comes of them must not spoil another batch.
        self._failing_streams: Set[Hashable] = set()

    def put(self, frame: EngineFrame) -> None:
        """Keep a place for a frame behind those of its stream, whichever is ready first."""
        self._turns.put(frame.stream, frame)

    def remove(self, frame: EngineFrame) -> None:
        """A frame will never be ready."""
        self._turns.remove(frame.stream, frame)

    def note_ready(self) -> None:
        """A frame has become ready."""
        if self._is_gathering:
            self._arrivals.put(None)

    def take(self, limits: BatchLimits) -> List[EngineFrame]:
        """Remove the ready frames whose turn it is: as many as may be executed together.

        Returns:
            The frames, in the order of their turns; none if none is ready.
        """
        self._is_gathering = limits.wait_seconds > 0
        frames = self._turns.take(limits.frames, self._fits)
        deadline = time.perf_counter() + limits.wait_seconds
        while self._is_gathering and 0 < len(frames) < limits.frames:
            if not self._arrives_before(deadline):
                break
            self._turns.fill(frames, limits.frames, self._fits)
        self._is_gathering = False
        return frames

    def note_outcome(self, stream: Hashable, *, failed: bool) -> None:
        """Whether the latest frame of a stream has failed, executed alone."""
        if not failed:
            self._failing_streams.discard(stream)
            return
        if len(self._failing_streams) >= _MOST_FAILING_STREAMS:
            # Most of them have ended.
            self._failing_streams.clear()
        self._failing_streams.add(stream)

    def _arrives_before(self, deadline: float) -> bool:
        try:
            self._arrivals.get(timeout=max(0.0, deadline - time.perf_counter()))
        except Empty:
            return False
        return True

    def _fits(self, frame: EngineFrame, taken: Sequence[EngineFrame]) -> bool:
        if frame.ready_at is None:
            return False
        if not taken:
            return True
        if not self._failing_streams.isdisjoint((frame.stream, taken[0].stream)):
            return False
        is_of_another = all(frame.stream != each.stream for each in taken)
        return is_of_another and are_alike(frame.tensors, taken[0].tensors)
