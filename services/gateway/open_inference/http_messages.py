"""The Open Inference Protocol over HTTP: JSON with its binary tensor extension, and domain types.

With the extension, a body is JSON of as many bytes as the header `Inference-Header-Content-Length`
says, and after it the tensors whose parameter `binary_data_size` says how many bytes they take.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from common.domain.errors import InvalidInputError
from common.validation import reason
from common.wire.parsing import MAX_FIELDS, MAX_RANK
from services.gateway.open_inference.model import (
    PLATFORM,
    VERSION,
    IndexedModel,
    InferenceRequest,
    refuse_unsupported,
)
from services.gateway.open_inference.tensors import (
    INPUTS,
    OUTPUTS,
    InputTensor,
    OutputTensor,
    TensorDescription,
)

HEADER_LENGTH = "Inference-Header-Content-Length"

# As over gRPC.
_Size = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]

_Parameters = dict[str, bool | int | float | str]


class _Output(BaseModel):
    name: str
    parameters: _Parameters = Field(default_factory=dict)


class _Tensor(_Output):
    datatype: str
    shape: list[_Size] = Field(max_length=MAX_RANK)
    data: list[Any] | None = None


class _Request(BaseModel):
    id: str = ""
    parameters: _Parameters = Field(default_factory=dict)
    inputs: list[_Tensor] = Field(max_length=MAX_FIELDS)
    outputs: list[_Output] = Field(default_factory=list, max_length=MAX_FIELDS)


class _IndexRequest(BaseModel):
    ready: bool = False


@dataclass(frozen=True)
class HttpInference:
    """A request, and how its caller wants the answer.

    Attributes:
        request: as the model takes it.
        binary: names of the outputs that are wanted as binary tensors.
    """

    request: InferenceRequest
    binary: frozenset[str]


def request_from_http(
    name: str, version: str, body: bytes, header_length: str | None
) -> HttpInference:
    """A request as the model takes it.

    Args:
        name: of the model, from the path.
        version: likewise; empty: any.
        body: of the HTTP request.
        header_length: what the header of this name says; None: all of the body is JSON.

    Raises:
        InvalidInputError: it is malformed.
        UnsupportedError: it asks for shared memory, or for classification.
    """
    parsed, binary = _split(body, header_length)
    for output in parsed.outputs:
        refuse_unsupported(output.parameters)
    inputs = []
    for tensor in parsed.inputs:
        refuse_unsupported(tensor.parameters)
        data, binary = _data_of(tensor, binary)
        inputs.append(InputTensor(tensor.name, tensor.datatype, tuple(tensor.shape), data))
    if binary:
        raise InvalidInputError(f"{len(binary)} bytes follow the last binary tensor")
    by_default = bool(parsed.parameters.get("binary_data_output", False))
    wanted = [
        (each.name, bool(each.parameters.get("binary_data", by_default))) for each in parsed.outputs
    ]
    every = [(each.name, by_default) for each in OUTPUTS]
    request = InferenceRequest(
        name=name,
        version=version,
        request_id=parsed.id,
        parameters=parsed.parameters,
        inputs=inputs,
        outputs=[output for output, _ in wanted],
    )
    return HttpInference(
        request, frozenset(output for output, is_binary in wanted or every if is_binary)
    )


def response_to_http(
    inference: HttpInference, outputs: Sequence[OutputTensor]
) -> tuple[bytes, dict[str, str]]:
    """The answer's body, and its headers."""
    request = inference.request
    told: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for output in outputs:
        description = output.description
        entry: dict[str, Any] = {
            "name": description.name,
            "datatype": description.datatype,
            "shape": list(output.values.shape),
        }
        if description.name in inference.binary:
            data = output.data
            entry["parameters"] = {"binary_data_size": len(data)}
            binary.append(data)
        elif description.datatype == "BYTES":
            entry["data"] = [each.decode() for each in output.values.flat]
        else:
            entry["data"] = output.values.ravel().tolist()
        told.append(entry)
    answer = {"model_name": request.name, "model_version": VERSION, "outputs": told}
    if request.request_id:
        answer["id"] = request.request_id
    header = json.dumps(answer, separators=(",", ":")).encode()
    if not binary:
        return header, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return b"".join((header, *binary)), headers


def metadata_to_http(name: str) -> dict[str, Any]:
    """What the model of this name takes and gives."""
    return {
        "name": name,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [_described(each) for each in INPUTS],
        "outputs": [_described(each) for each in OUTPUTS],
    }


def config_to_http(name: str) -> dict[str, Any]:
    """The same in the words of Triton's configuration."""
    return {
        "name": name,
        "platform": PLATFORM,
        # Pictures are not stacked to batches by their callers.
        "max_batch_size": 0,
        "input": [{**_configured(each), "optional": True} for each in INPUTS],
        "output": [_configured(each) for each in OUTPUTS],
    }


def index_to_http(models: Sequence[IndexedModel]) -> list[dict[str, str]]:
    """Which models there are."""
    return [
        {"name": each.name, "version": VERSION, "state": each.state, "reason": each.reason}
        for each in models
    ]


def wants_ready_only(body: bytes) -> bool:
    """Whether the request of an index is for models alone that can serve now.

    Raises:
        InvalidInputError: it is malformed.
    """
    try:
        return _IndexRequest.model_validate_json(body or b"{}").ready
    except ValidationError:
        raise InvalidInputError("the request is no JSON object, or its ready no boolean") from None


def _split(body: bytes, header_length: str | None) -> tuple[_Request, bytes]:
    length = len(body)
    if header_length is not None:
        known = header_length.isascii() and header_length.isdecimal() and len(header_length) < 12
        if not known or int(header_length) > len(body):
            raise InvalidInputError(f"{HEADER_LENGTH} has to be a number of bytes of the body")
        length = int(header_length)
    try:
        content = json.loads(body[:length])
    except (ValueError, RecursionError):
        raise InvalidInputError("the request is no JSON") from None
    if not isinstance(content, dict):
        raise InvalidInputError("the request is no JSON object")
    try:
        return _Request.model_validate(content), body[length:]
    except ValidationError as error:
        raise InvalidInputError(_told(error)) from None


def _told(error: ValidationError) -> str:
    """What is wrong first, with its place."""
    first = error.errors(include_input=False, include_url=False)[0]
    place, why = first["loc"], reason(first)
    if "parameters" in place[:-2]:
        # Else the first kind of a parameter would be told, as if it were the only one.
        place, why = place[:-1], "a parameter is a boolean, a number or a string"
    return f"{'.'.join(map(str, place))}: {why}"


def _data_of(tensor: _Tensor, binary: bytes) -> tuple[bytes, bytes]:
    """The tensor's elements, and what is left of the binary tensors."""
    size = tensor.parameters.get("binary_data_size")
    if size is None:
        return _from_json(tensor), binary
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(binary):
        raise InvalidInputError(
            f"input {tensor.name!r}: binary_data_size is {size!r}, and {len(binary)} bytes are left"
        )
    if tensor.data is not None:
        raise InvalidInputError(f"input {tensor.name!r} has both data and binary_data_size")
    return binary[:size], binary[size:]


def _from_json(tensor: _Tensor) -> bytes:
    """The pixels that JSON holds as numbers, nested or not."""
    if tensor.datatype == "BYTES":
        raise InvalidInputError(
            f"input {tensor.name!r}: JSON cannot hold the bytes of a picture; send them as a "
            "binary tensor"
        )
    try:
        numbers = np.array(tensor.data if tensor.data is not None else [])
    except ValueError:
        raise InvalidInputError(f"input {tensor.name!r}: the rows of data differ") from None
    if numbers.size and (
        numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 255
    ):
        raise InvalidInputError(f"input {tensor.name!r}: data has to be whole numbers to 255")
    return numbers.astype(np.uint8).tobytes()


def _configured(each: TensorDescription) -> dict[str, Any]:
    return {"name": each.name, "data_type": each.triton_type, "dims": list(each.shape)}


def _described(each: TensorDescription) -> dict[str, Any]:
    return {"name": each.name, "datatype": each.datatype, "shape": list(each.shape)}
