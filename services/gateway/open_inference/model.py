"""The models that the gateway serves to clients of inference servers, free of any transport."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.domain.detections import DEFAULT_SCORE_THRESHOLD, Detection, DetectionOptions
from common.domain.errors import InvalidInputError, TandemError
from common.domain.frames import Image
from common.domain.models import DEFAULT_MODEL
from services.gateway.detection_pool import DetectionPool
from services.gateway.open_inference.tensors import (
    InputTensor,
    OutputTensor,
    check_outputs,
    chosen,
    outputs_of,
    pictures_of,
)
from services.gateway.readiness import Readiness

PLATFORM = "tandem_detr"
VERSION = "1"
"""Of the model's inputs and outputs."""
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository")
"""Of the protocol, by their names."""

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


NO_LOADING = (
    "models are neither loaded nor unloaded here: stages load those of their settings, and "
    "`tandem model deploy` changes them"
)
"""What is told of the protocol's control of models."""


@dataclass(frozen=True)
class IndexedModel:
    """A model, as the index of the repository tells of it.

    Attributes:
        name: that callers know it by.
        is_ready: whether it can serve pictures now.
    """

    name: str
    is_ready: bool

    @property
    def state(self) -> str:
        """The protocol's word for it."""
        return "READY" if self.is_ready else "UNAVAILABLE"

    @property
    def reason(self) -> str:
        """Why it cannot serve; empty if it can."""
        return "" if self.is_ready else "nothing can serve it now"


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


class Models:
    """The detectors under the names that callers know them by.

    All of them take and give the same tensors. The orchestrator's default model has a name here,
    which goes before one of the same name there.
    """

    def __init__(self, pool: DetectionPool, readiness: Readiness, name: str) -> None:
        """Answer by `pool`.

        Args:
            pool: of streams.
            readiness: knows the orchestrator's models.
            name: of the default model.
        """
        self._pool = pool
        self._readiness = readiness
        self._name = name

    async def is_ready(self, name: str, version: str) -> bool:
        """Whether there is such a model, and it can serve pictures now."""
        try:
            model = await self.named(name, version)
        except UnknownModelError:
            return False
        return await self._readiness.is_ready(model)

    async def index(self, *, ready: bool) -> list[IndexedModel]:
        """All models by their names, the default one first.

        Args:
            ready: only those that can serve pictures now.
        """
        further = sorted(await self._readiness.models() - {self._name})
        asked = (DEFAULT_MODEL, *further)
        are_ready = await asyncio.gather(*map(self._readiness.is_ready, asked))
        found = map(IndexedModel, (self._name, *further), are_ready)
        return [each for each in found if each.is_ready or not ready]

    async def named(self, name: str, version: str) -> str:
        """The orchestrator's name of a model.

        Raises:
            UnknownModelError: there is no such model, as far as the orchestrator can be asked.
        """
        further = frozenset() if name == self._name else await self._readiness.models()
        if name != self._name and name not in further:
            known = " or ".join(map(repr, (self._name, *sorted(further - {self._name}))))
            raise UnknownModelError(f"unknown model {name[:64]!r}; the model is {known}")
        if version not in ("", VERSION):
            raise UnknownModelError(
                f"model {name!r} has no version {version!r}; its version is {VERSION!r}"
            )
        return DEFAULT_MODEL if name == self._name else name

    async def infer(self, request: InferenceRequest) -> list[OutputTensor]:
        """Detect on all pictures of a request, side by side.

        Raises:
            UnknownModelError: there is no such model.
            InvalidInputError: its tensors or parameters make no sense, or a picture is none.
            TandemError: it could not be served.
        """
        model = await self.named(request.name, request.version)
        check_outputs(request.outputs)
        wanted = _options_of(request.parameters)
        pictures = pictures_of(request.inputs)
        found = await asyncio.gather(*(self._detections(each, wanted, model) for each in pictures))
        for number, detections in enumerate(found, 1):
            if isinstance(detections, TandemError):
                raise _of_picture(detections, number, len(pictures))
        served = [each for each in found if not isinstance(each, TandemError)]
        return chosen(outputs_of(served), request.outputs)

    async def _detections(
        self, picture: Image, wanted: DetectionOptions, model: str
    ) -> Sequence[Detection] | TandemError:
        try:
            result = await self._pool.detect(picture, wanted, model)
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
