"""The Open Inference Protocol over gRPC: messages to domain types and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.domain.errors import InvalidInputError
from protos.inference import open_inference_pb2 as messages
from services.gateway.open_inference.model import (
    PLATFORM,
    VERSION,
    IndexedModel,
    InferenceRequest,
    Parameter,
    refuse_unsupported,
)
from services.gateway.open_inference.tensors import (
    INPUTS,
    OUTPUTS,
    InputTensor,
    OutputTensor,
    TensorDescription,
)


def request_from_wire(request: messages.ModelInferRequest) -> InferenceRequest:
    """A request as the model takes it.

    Raises:
        InvalidInputError: there are not as many raw tensors as inputs, or numbers came one by one.
        UnsupportedError: it asks for shared memory, or for classification.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(
            f"the request has {len(request.inputs)} inputs and {len(raw)} raw_input_contents"
        )
    for tensor in request.inputs:
        refuse_unsupported(tensor.parameters)
    for output in request.outputs:
        refuse_unsupported(output.parameters)
    return InferenceRequest(
        name=request.model_name,
        version=request.model_version,
        request_id=request.id,
        parameters=_parameters(request.parameters),
        inputs=[
            _input(tensor, raw[index] if raw else None)
            for index, tensor in enumerate(request.inputs)
        ],
        outputs=[tensor.name for tensor in request.outputs],
    )


def response_to_wire(
    request: InferenceRequest, outputs: Sequence[OutputTensor]
) -> messages.ModelInferResponse:
    """The answer to a request."""
    response = messages.ModelInferResponse(
        model_name=request.name, model_version=VERSION, id=request.request_id
    )
    for output in outputs:
        response.outputs.add(
            name=output.description.name,
            datatype=output.description.datatype,
            shape=output.values.shape,
        )
        response.raw_output_contents.append(output.data)
    return response


def metadata_to_wire(name: str) -> messages.ModelMetadataResponse:
    """What the model of this name takes and gives."""
    return messages.ModelMetadataResponse(
        name=name,
        versions=[VERSION],
        platform=PLATFORM,
        inputs=[_described(each) for each in INPUTS],
        outputs=[_described(each) for each in OUTPUTS],
    )


def index_to_wire(models: Sequence[IndexedModel]) -> messages.RepositoryIndexResponse:
    """Which models there are."""
    answer = messages.RepositoryIndexResponse()
    for each in models:
        answer.models.add(name=each.name, version=VERSION, state=each.state, reason=each.reason)
    return answer


def config_to_wire(name: str) -> messages.ModelConfigResponse:
    """The same in the words of Triton's configuration."""
    config = messages.ModelConfig(name=name, platform=PLATFORM)
    for each in INPUTS:
        data_type = messages.DataType.Value(each.triton_type)
        config.input.add(name=each.name, data_type=data_type, dims=each.shape, optional=True)
    for each in OUTPUTS:
        data_type = messages.DataType.Value(each.triton_type)
        config.output.add(name=each.name, data_type=data_type, dims=each.shape)
    return messages.ModelConfigResponse(config=config)


def _input(tensor: messages.ModelInferRequest.InferInputTensor, raw: bytes | None) -> InputTensor:
    data: bytes | Sequence[bytes] = b"" if raw is None else raw
    if tensor.HasField("contents"):
        if raw is not None:
            raise InvalidInputError(
                f"input {tensor.name!r} has contents, though there are raw_input_contents"
            )
        data = _contents(tensor)
    return InputTensor(tensor.name, tensor.datatype, tuple(tensor.shape), data)


def _contents(tensor: messages.ModelInferRequest.InferInputTensor) -> bytes | Sequence[bytes]:
    """What an input has beside its name and shape, where it is not raw."""
    if tensor.datatype == "BYTES":
        return list(tensor.contents.bytes_contents)
    if tensor.datatype != "UINT8":
        raise InvalidInputError(
            f"input {tensor.name!r} has its numbers in contents; send them as raw_input_contents"
        )
    try:
        return bytes(tensor.contents.uint_contents)
    except ValueError:
        raise InvalidInputError(
            f"input {tensor.name!r} is UINT8 and has numbers above 255"
        ) from None


def _parameters(wire: Mapping[str, messages.InferParameter]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for name, parameter in wire.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is not None:
            found[name] = getattr(parameter, kind)
    return found


def _described(each: TensorDescription) -> messages.ModelMetadataResponse.TensorMetadata:
    return messages.ModelMetadataResponse.TensorMetadata(
        name=each.name, datatype=each.datatype, shape=each.shape
    )
