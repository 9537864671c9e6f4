"""Tensors of the Open Inference Protocol, free of any transport: to pictures, and of detections.

Elements are row-major, little endian and without padding. Of a BYTES tensor, each element stands
after its length in 4 bytes. Source: the protocol's specification (KServe, `v2 protocol`) and its
binary tensor extension.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from common.domain.detections import Detection
from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, Image, PixelFormat, RawImage

MAX_PICTURES = 64
"""Of one request."""

ENCODED, PIXELS = "image", "pixels"
"""The model's inputs; a request has one of them."""

_LENGTH = struct.Struct("<I")
_PIXEL_FORMATS = {1: PixelFormat.GRAY8, 3: PixelFormat.RGB8}


@dataclass(frozen=True)
class TensorDescription:
    """What the model takes or gives.

    Attributes:
        name: of the tensor.
        datatype: in the protocol's words.
        shape: -1: any size.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def triton_type(self) -> str:
        """The datatype in the words of Triton's configuration."""
        return "TYPE_STRING" if self.datatype == "BYTES" else f"TYPE_{self.datatype}"


INPUTS = (
    TensorDescription(ENCODED, "BYTES", (-1,)),
    TensorDescription(PIXELS, "UINT8", (-1, -1, -1, 3)),
)
OUTPUTS = (
    TensorDescription("boxes", "FP32", (-1, 4)),
    TensorDescription("scores", "FP32", (-1,)),
    TensorDescription("class_ids", "INT32", (-1,)),
    TensorDescription("labels", "BYTES", (-1,)),
    TensorDescription("counts", "INT32", (-1,)),
)


@dataclass(frozen=True)
class InputTensor:
    """A tensor of a request.

    Attributes:
        name: of the model's input.
        datatype: in the protocol's words.
        shape: as the caller says.
        data: all elements as one, or the elements of a BYTES tensor one by one.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes | Sequence[bytes]


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of an answer.

    Attributes:
        description: its name and datatype.
        values: its elements, in its shape; of dtype object with `bytes` for BYTES.
    """

    description: TensorDescription
    values: np.ndarray

    @property
    def data(self) -> bytes:
        """The elements as they are sent."""
        if self.description.datatype == "BYTES":
            return bytes_to_data(self.values.flat)
        return self.values.astype(self.values.dtype.newbyteorder("<"), copy=False).tobytes()


def pictures_of(inputs: Sequence[InputTensor]) -> list[Image]:
    """The pictures of a request, in their order; at least one.

    Raises:
        InvalidInputError: the tensors are not those of the model, or make no sense.
    """
    known = {each.name: each for each in INPUTS}
    for tensor in inputs:
        if tensor.name not in known:
            raise InvalidInputError(
                f"unexpected input {tensor.name!r}; inputs are {' and '.join(known)}"
            )
    if len(inputs) != 1:
        raise InvalidInputError(
            f"the request has {len(inputs)} inputs; it has to have one, {' or '.join(known)}"
        )
    tensor = inputs[0]
    expected = known[tensor.name]
    if tensor.datatype != expected.datatype:
        raise InvalidInputError(
            f"input {tensor.name!r} is of datatype {tensor.datatype!r}; it has to be "
            f"{expected.datatype}"
        )
    if any(size < 1 for size in tensor.shape):
        raise InvalidInputError(f"{_told(tensor)}; every size has to be 1 or more")
    return _encoded(tensor) if tensor.name == ENCODED else _raw(tensor)


def outputs_of(pictures: Sequence[Sequence[Detection]]) -> list[OutputTensor]:
    """All outputs of the model.

    Args:
        pictures: the detections of each picture, in order. They stand one after another: `counts`
            tells how many there are of each picture.
    """
    found = [detection for detections in pictures for detection in detections]
    boxes = [(each.box.x_min, each.box.y_min, each.box.x_max, each.box.y_max) for each in found]
    labels = np.empty(len(found), np.object_)
    labels[:] = [each.category_name.encode() for each in found]
    values = (
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([each.score for each in found], np.float32),
        np.array([each.category_id for each in found], np.int32),
        labels,
        np.array([len(detections) for detections in pictures], np.int32),
    )
    return [OutputTensor(*pair) for pair in zip(OUTPUTS, values, strict=True)]


def chosen(outputs: Sequence[OutputTensor], names: Sequence[str]) -> list[OutputTensor]:
    """The outputs of these names, in their order; all of them if there is no name."""
    by_name = {each.description.name: each for each in outputs}
    return [by_name[name] for name in names] if names else list(outputs)


def check_outputs(names: Sequence[str]) -> None:
    """Check what a request asks for.

    Raises:
        InvalidInputError: the model has no such output, or it is named twice.
    """
    known = [each.name for each in OUTPUTS]
    for name in names:
        if name not in known:
            raise InvalidInputError(f"unexpected output {name!r}; outputs are {', '.join(known)}")
    if len(set(names)) != len(names):
        raise InvalidInputError("an output is asked for twice")


def bytes_to_data(elements: Iterable[bytes]) -> bytes:
    """The elements of a BYTES tensor as they are sent."""
    return b"".join(_LENGTH.pack(len(each)) + each for each in elements)


def bytes_of_data(data: bytes, most: int) -> list[bytes]:
    """The elements of a BYTES tensor.

    Args:
        data: as it came.
        most: elements that there may be.

    Raises:
        InvalidInputError: the lengths make no sense, or there are more.
    """
    elements: list[bytes] = []
    position = 0
    while position < len(data):
        start = position + _LENGTH.size
        if len(elements) >= most:
            raise InvalidInputError(f"a BYTES tensor has more than {most} elements")
        if start > len(data):
            raise InvalidInputError("a BYTES tensor ends within the length of an element")
        position = start + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            raise InvalidInputError("a BYTES tensor ends within an element")
        elements.append(data[start:position])
    return elements


def _encoded(tensor: InputTensor) -> list[Image]:
    """JPEG or PNG files, [N] or [N,1]."""
    if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ((), (1,)):
        raise InvalidInputError(f"{_told(tensor)}; it has to be [N] or [N,1]")
    count = _checked_count(tensor, tensor.shape[0])
    data = tensor.data
    elements = bytes_of_data(data, count) if isinstance(data, bytes) else list(data)
    if len(elements) != count:
        raise InvalidInputError(f"{_told(tensor)}, and holds {len(elements)} elements")
    return [EncodedImage(each) for each in elements]


def _raw(tensor: InputTensor) -> list[Image]:
    """Pixels, [H,W,C] or [N,H,W,C]; C is 3 (RGB) or 1 (grey)."""
    if len(tensor.shape) not in (3, 4) or tensor.shape[-1] not in _PIXEL_FORMATS:
        raise InvalidInputError(
            f"{_told(tensor)}; it has to be [H,W,3] or [N,H,W,3] in RGB, or with 1 in grey"
        )
    height, width, channels = tensor.shape[-3:]
    count = _checked_count(tensor, tensor.shape[0] if len(tensor.shape) == 4 else 1)
    data = tensor.data
    if not isinstance(data, bytes) or len(data) != math.prod(tensor.shape):
        raise InvalidInputError(
            f"{_told(tensor)}, and holds {len(data)} bytes, not {math.prod(tensor.shape)}"
        )
    size = height * width * channels
    pixel_format = _PIXEL_FORMATS[channels]
    return [
        RawImage(width, height, pixel_format, data[start : start + size])
        for start in range(0, count * size, size)
    ]


def _checked_count(tensor: InputTensor, count: int) -> int:
    if count > MAX_PICTURES:
        raise InvalidInputError(
            f"{_told(tensor)}, which is {count} pictures; a request has at most {MAX_PICTURES}"
        )
    return count


def _told(tensor: InputTensor) -> str:
    shape = ",".join(str(size) for size in tensor.shape[:8])
    return f"input {tensor.name!r} has shape [{shape}]"
