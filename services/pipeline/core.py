"""A stage's own part: how it prepares a frame, and what it makes of the engine's outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Callable, Dict, Generic, Mapping, Protocol, Tuple, TypeVar, Union

import numpy as np

from common.domain.detections import StageTiming


class FrameInputs(Protocol):
    """What a worker makes of a frame for the engine."""

    @property
    def tensors(self) -> Dict[str, np.ndarray]:
        """The engine's inputs by name."""
        ...

    @property
    def decode_seconds(self) -> float:
        """How long decoding took."""
        ...

    @property
    def preprocess_seconds(self) -> float:
        """How long the rest took."""
        ...


Frame = TypeVar("Frame")
Inputs = TypeVar("Inputs", bound=FrameInputs)
Options = TypeVar("Options")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Slow(Generic[Inputs]):
    """What a worker found too slow to prepare itself: other frames would wait for it."""

    prepare: Callable[[], Inputs]


class StageCore(ABC, Generic[Frame, Inputs, Options, Result]):
    """What a stage does to a frame before and after the engine; no threads and no transport."""

    @abstractmethod
    def prepare(self, frame: Frame) -> Union[Inputs, Slow[Inputs]]:
        """Make the engine's inputs, or say that this is slow.

        Raises:
            TandemError: the frame cannot be served.
        """

    @abstractmethod
    def finish(
        self,
        inputs: Inputs,
        outputs: Mapping[str, np.ndarray],
        options: Options,
        timing: StageTiming,
    ) -> Result:
        """Make the result of what the engine computed.

        Args:
            inputs: as they were prepared.
            outputs: the engine's, by name.
            options: what the frame's stream asked for.
            timing: of the steps before.

        Raises:
            TandemError: the outputs are of no use.
        """

    @abstractmethod
    def typical_tensors(self) -> Dict[str, np.ndarray]:
        """Inputs of the usual size, on which an engine must not fail."""

    @abstractmethod
    def stuck_after_seconds(self) -> Tuple[float, float]:
        """After how long at one frame a worker, and the one for what is slow, must hang."""

    def start(self) -> None:
        """Start what frames are prepared with; may take a while."""

    def close(self) -> None:
        """End what frames are prepared with, at once; frames under way fail."""
