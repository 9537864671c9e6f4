"""The one model that the gateway serves to clients of inference servers, free of any transport."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.domain.detections import DEFAULT_SCORE_THRESHOLD, Detection, DetectionOptions
from common.domain.errors import InvalidInputError, TandemError
from common.domain.frames import Image
from services.gateway.detection_pool import DetectionPool
from services.gateway.open_inference.tensors import (
    InputTensor,
    OutputTensor,
    check_outputs,
    chosen,
    outputs_of,
    pictures_of,
)

PLATFORM = "tandem_detr"
VERSION = "1"
"""Of the model's inputs and outputs."""

Parameter = bool | int | float | str

_SCORE_THRESHOLD, _MAX_DETECTIONS = "score_threshold", "max_detections"
_MOST_DETECTIONS = (1 << 31) - 1
# What the protocol lets a caller ask for, and is not there.
_UNSUPPORTED = {
    "shared_memory_region": "shared memory is not supported: send the tensor itself",
    "classification": "classification is not supported: the output labels has the names",
}


class UnknownModelError(InvalidInputError):
    """There is no model of this name and version."""


class UnsupportedError(InvalidInputError):
    """The protocol has it, and Tandem does not."""


@dataclass(frozen=True)
class InferenceRequest:
    """One request of any transport.

    Attributes:
        name: of the model.
        version: of the model; empty: any.
        request_id: which the answer carries back.
        parameters: of the request.
        inputs: the tensors.
        outputs: names of the outputs that are wanted, in this order; empty: all.
    """

    name: str
    version: str
    request_id: str
    parameters: Mapping[str, Parameter]
    inputs: Sequence[InputTensor]
    outputs: Sequence[str]


class Model:
    """The detector under the name that callers know it by.

    Attributes:
        name: of the model.
    """

    def __init__(self, pool: DetectionPool, name: str) -> None:
        """Answer by `pool`."""
        self.name = name
        self._pool = pool

    def knows(self, name: str, version: str) -> bool:
        """Whether this is the model that is meant."""
        return name == self.name and version in ("", VERSION)

    def check(self, name: str, version: str) -> None:
        """Check that this is the model that is meant.

        Raises:
            UnknownModelError: it is another.
        """
        if name != self.name:
            raise UnknownModelError(f"unknown model {name!r}; the model is {self.name!r}")
        if version not in ("", VERSION):
            raise UnknownModelError(
                f"model {name!r} has no version {version!r}; its version is {VERSION!r}"
            )

    async def infer(self, request: InferenceRequest) -> list[OutputTensor]:
        """Detect on all pictures of a request, side by side.

        Raises:
            UnknownModelError: it is for another model.
            InvalidInputError: its tensors or parameters make no sense, or a picture is none.
            TandemError: it could not be served.
        """
        self.check(request.name, request.version)
        check_outputs(request.outputs)
        wanted = _options_of(request.parameters)
        pictures = pictures_of(request.inputs)
        found = await asyncio.gather(*(self._detections(each, wanted) for each in pictures))
        for number, detections in enumerate(found, 1):
            if isinstance(detections, TandemError):
                raise _of_picture(detections, number, len(pictures))
        served = [each for each in found if not isinstance(each, TandemError)]
        return chosen(outputs_of(served), request.outputs)

    async def _detections(
        self, picture: Image, wanted: DetectionOptions
    ) -> Sequence[Detection] | TandemError:
        try:
            result = await self._pool.detect(picture, wanted)
        except TandemError as error:
            return error
        return result.error or result.detections


def refuse_unsupported(parameters: Mapping[str, object]) -> None:
    """Check the parameters of a tensor.

    Raises:
        UnsupportedError: they ask for what is not there.
    """
    for name, sentence in _UNSUPPORTED.items():
        if name in parameters:
            raise UnsupportedError(sentence)


def _options_of(parameters: Mapping[str, Parameter]) -> DetectionOptions:
    """What a request's parameters say of detections; those of other names are left alone."""
    threshold = parameters.get(_SCORE_THRESHOLD, DEFAULT_SCORE_THRESHOLD)
    most = parameters.get(_MAX_DETECTIONS, 0)
    # Some clients can only send text.
    try:
        number = float(threshold) if not isinstance(threshold, bool) else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    if not 0 <= number <= 1:
        raise InvalidInputError(f"parameter {_SCORE_THRESHOLD} has to be a number from 0 to 1")
    if isinstance(most, str) and most.isascii() and most.isdecimal() and len(most) < 12:
        most = int(most)
    if isinstance(most, bool) or not isinstance(most, int) or not 0 <= most <= _MOST_DETECTIONS:
        raise InvalidInputError(f"parameter {_MAX_DETECTIONS} has to be a whole number, 0 or more")
    return DetectionOptions(number, most)


def _of_picture(error: TandemError, number: int, count: int) -> TandemError:
    """The error, which names the picture where there are several."""
    return error if count == 1 else type(error)(f"picture {number} of {count}: {error}")
