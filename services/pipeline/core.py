"""A stage's own part: how it prepares a frame, and what it makes of the engine's outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import (
    Callable,
    ClassVar,
    Dict,
    Generic,
    Mapping,
    Protocol,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)

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
    """Says that preparing a frame is slow, and does it; other frames must not wait for that."""

    prepare: Callable[[], Inputs]


class StageCore(ABC, Generic[Frame, Inputs, Options, Result]):
    """What a stage does to a frame before and after the engine, without threads or transport.

    Attributes:
        prepares_quickly: whether `prepare` takes so little, whatever the frame, that other frames
            may wait for it as they do for each other's executions.
    """

    prepares_quickly: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, frame: Frame) -> Union[Inputs, Slow[Inputs]]:
        """Make the engine's inputs, or say that this is slow.

        Raises:
            TandemError: the frame cannot be served.
        """

    def engine_inputs(self, inputs: Inputs, options: Options) -> Dict[str, np.ndarray]:
        """What of a prepared frame the engine gets, under names that say what it is to execute.

        It is called on the engine's thread, more than once for a frame, so it must be quick.
        """
        return inputs.tensors

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
            timing: of the steps before; this step's is to be filled in.

        Raises:
            TandemError: the outputs are of no use.
        """

    @abstractmethod
    def typical_tensors(self) -> Sequence[Dict[str, np.ndarray]]:
        """Inputs of the usual size, on which an engine must not fail: one of each kind."""

    @abstractmethod
    def stuck_after_seconds(self) -> Tuple[float, float]:
        """The time after which a worker, and the slow worker, must be hanging at a frame."""

    def start(self) -> None:
        """Start what frames are prepared with, if it is not; may take a while."""
