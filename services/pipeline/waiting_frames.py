"""The frames that wait for an engine; it takes them in turn, one or a batch at a time."""

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
    """The outputs of one frame, and when they were computed.

    Attributes:
        outputs: arrays by output name.
        started: when the execution of this frame began, by `time.perf_counter`.
        queue_seconds: how long the frame waited from being ready to that moment. The shares of the
            other frames of its batch count as waiting.
        execute_seconds: how long the engine took; for a batch, each frame gets an equal share.
    """

    outputs: Dict[str, np.ndarray]
    started: float
    queue_seconds: float
    execute_seconds: float


Outcome = Union[ExecutedFrame, BaseException]


class EngineFrame(Protocol):
    """A frame as the engine's thread sees it."""

    @property
    def stream(self) -> Hashable:
        """The stream that the frame is of; streams take turns."""
        ...

    @property
    def tensors(self) -> Mapping[str, np.ndarray]:
        """The engine's inputs by name."""
        ...

    @property
    def ready_at(self) -> Optional[float]:
        """When the tensors became ready, by `time.perf_counter`; None while they are not."""
        ...

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for the frame; if not, it is skipped in its turn."""
        ...

    def executed(self, outcome: Outcome, *, others_wait: bool) -> None:
        """Take the outputs, or the error of the execution; called on the engine's thread.

        Args:
            outcome: of the execution.
            others_wait: whether there are other frames. Their execution waits for this call, so it
                must be short then. It must not make a system call either, because that would give
                the GIL away.
        """
        ...


@dataclass(frozen=True)
class BatchLimits:
    """How many frames may be executed together, and how long the first may wait for the others.

    Attributes:
        frames: the largest number of frames in one execution; 1: every frame is executed alone.
        wait_seconds: the longest wait; 0: only frames that are ready at one moment go together.
    """

    frames: int = 1
    wait_seconds: float = 0.0


class WaitingFrames:
    """Frames of many streams that wait for one engine; each stream keeps its order.

    Streams take turns: a batch has one frame of each stream that has one ready, and further frames
    of these streams only where room is left. A lone stream's frames are executed one by one, so
    that none waits for the next. Any thread may add frames; one thread takes them.
    """

    def __init__(self) -> None:
        """Begin without frames."""
        self._turns: Turns[EngineFrame] = Turns()
        # While the taker waits for more frames, it gets a token for each that becomes ready.
        self._is_gathering = False
        self._arrivals: SimpleQueue[None] = SimpleQueue()
        # Streams whose latest frame failed; their next frames are kept out of batches.
        self._failing_streams: Set[Hashable] = set()

    def put(self, frame: EngineFrame) -> None:
        """Give a frame its place behind the earlier ones of its stream, before it is ready."""
        self._turns.put(frame.stream, frame)

    def remove(self, frame: EngineFrame) -> None:
        """Remove a frame that will never be ready."""
        self._turns.remove(frame.stream, frame)

    def note_ready(self) -> None:
        """Take note that a frame has become ready."""
        if self._is_gathering:
            self._arrivals.put(None)

    def take(self, limits: BatchLimits) -> List[EngineFrame]:
        """Remove and return the ready frames whose turn it is, as many as may go together.

        Returns:
            The frames in the order of their turns; empty if none is ready.
        """
        self._is_gathering = limits.wait_seconds > 0
        frames: List[EngineFrame] = []
        self._fill(frames, limits.frames)
        deadline = time.perf_counter() + limits.wait_seconds
        while self._is_gathering and 0 < len(frames) < limits.frames:
            if not self._arrives_before(deadline):
                break
            self._fill(frames, limits.frames)
        self._is_gathering = False
        return frames

    def ready_since(self) -> Optional[float]:
        """When the frame became ready that has been so for longest; None if none is ready."""
        times = [frame.ready_at for frame in self._turns.heads()]
        return min((each for each in times if each is not None), default=None)

    def __bool__(self) -> bool:
        """Whether there are any frames, ready or not."""
        return bool(self._turns)

    def note_outcome(self, stream: Hashable, *, failed: bool) -> None:
        """Take note whether a frame of a stream failed when it was executed alone."""
        if not failed:
            self._failing_streams.discard(stream)
            return
        if len(self._failing_streams) >= _MOST_FAILING_STREAMS:
            # Most of these streams have ended by now.
            self._failing_streams.clear()
        self._failing_streams.add(stream)

    def _arrives_before(self, deadline: float) -> bool:
        try:
            self._arrivals.get(timeout=max(0.0, deadline - time.perf_counter()))
        except Empty:
            return False
        return True

    def _fill(self, frames: List[EngineFrame], limit: int) -> None:
        """Take a frame of each stream, then more of the same ones as long as there is room."""
        before = -1
        while before < len(frames) < limit:
            before = len(frames)
            self._turns.fill(frames, limit, self._fits)

    def _fits(self, frame: EngineFrame, taken: Sequence[EngineFrame]) -> bool:
        if frame.ready_at is None:
            return False
        if not taken:
            return True
        if not self._failing_streams.isdisjoint((frame.stream, taken[0].stream)):
            return False
        is_lone = all(frame.stream == each.stream for each in taken)
        return not is_lone and are_alike(frame.tensors, taken[0].tensors)
