"""Requests of the Open Inference Protocol over gRPC and HTTP, good and bad."""

import json

import numpy as np
import pytest

from common.domain.detections import Box, Detection
from common.domain.errors import InvalidInputError
from protos.inference import open_inference_pb2 as messages
from services.gateway.open_inference.grpc_messages import request_from_wire, response_to_wire
from services.gateway.open_inference.http_messages import request_from_http, response_to_http
from services.gateway.open_inference.model import UnsupportedError
from services.gateway.open_inference.tensors import bytes_to_data, outputs_of, pictures_of

FILE = bytes_to_data([b"\xff\xd8file"])
IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1]}
PIXELS = {"name": "pixels", "datatype": "UINT8", "shape": [1, 2, 3]}
FOUND = outputs_of([[Detection(3, "car", 0.5, Box(1, 2, 3, 4))]])


def wire(**fields):
    return messages.ModelInferRequest(model_name="tandem", **fields)


def binary_body(entry, data, **more):
    entry = {**entry, "parameters": {"binary_data_size": len(data), **entry.get("parameters", {})}}
    header = json.dumps({"inputs": [entry], **more}).encode()
    return header + data, str(len(header))


def test_a_request_over_grpc():
    request = request_from_wire(
        wire(
            id="7",
            parameters={
                "score_threshold": messages.InferParameter(double_param=0.25),
                "max_detections": messages.InferParameter(int64_param=3),
                "empty": messages.InferParameter(),
            },
            inputs=[IMAGE],
            outputs=[{"name": "boxes"}],
            raw_input_contents=[FILE],
        )
    )
    assert (request.name, request.version, request.request_id) == ("tandem", "", "7")
    assert request.parameters == {"score_threshold": 0.25, "max_detections": 3}
    assert request.outputs == ["boxes"]
    assert pictures_of(request.inputs)[0].data == b"\xff\xd8file"


def test_files_may_come_one_by_one():
    request = request_from_wire(
        wire(inputs=[{**IMAGE, "shape": [2], "contents": {"bytes_contents": [b"a", b"b"]}}])
    )
    assert [each.data for each in pictures_of(request.inputs)] == [b"a", b"b"]


def test_pixels_may_come_one_by_one():
    numbers = list(range(6))
    request = request_from_wire(wire(inputs=[{**PIXELS, "contents": {"uint_contents": numbers}}]))
    assert request.inputs[0].data == bytes(numbers)


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"inputs": [IMAGE], "raw_input_contents": [FILE, FILE]}, InvalidInputError, "1 inputs"),
        (
            {
                "inputs": [{**IMAGE, "contents": {"bytes_contents": [b"a"]}}],
                "raw_input_contents": [FILE],
            },
            InvalidInputError,
            "has contents, though",
        ),
        (
            {"inputs": [{**PIXELS, "datatype": "FP32", "contents": {"fp32_contents": [1] * 6}}]},
            InvalidInputError,
            "raw_input_contents",
        ),
        (
            {"inputs": [{**PIXELS, "contents": {"uint_contents": [256] * 6}}]},
            InvalidInputError,
            "numbers above 255",
        ),
        (
            {"inputs": [{**IMAGE, "parameters": {"shared_memory_region": {"string_param": "a"}}}]},
            UnsupportedError,
            "shared memory",
        ),
        (
            {
                "inputs": [IMAGE],
                "raw_input_contents": [FILE],
                "outputs": [
                    {"name": "scores", "parameters": {"classification": {"int64_param": 3}}}
                ],
            },
            UnsupportedError,
            "classification",
        ),
    ],
)
def test_a_bad_request_over_grpc(fields, kind, words):
    with pytest.raises(kind, match=words):
        request_from_wire(wire(**fields))


def test_an_answer_over_grpc():
    request = request_from_wire(wire(id="7", inputs=[IMAGE], raw_input_contents=[FILE]))
    answer = response_to_wire(request, FOUND)
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "tandem", "1")
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.outputs] == [
        ("boxes", "FP32", [1, 4]),
        ("scores", "FP32", [1]),
        ("class_ids", "INT32", [1]),
        ("labels", "BYTES", [1]),
        ("counts", "INT32", [1]),
    ]
    boxes, _, ids, labels, _ = answer.raw_output_contents
    assert np.frombuffer(boxes, "<f4").tolist() == [1, 2, 3, 4]
    assert (ids, labels) == (b"\3\0\0\0", b"\3\0\0\0car")


def test_a_binary_request_over_http():
    body, length = binary_body(IMAGE, FILE, id="a", outputs=[{"name": "boxes"}])
    inference = request_from_http("tandem", "1", body, length)
    assert pictures_of(inference.request.inputs)[0].data == b"\xff\xd8file"
    assert (inference.request.request_id, inference.request.version) == ("a", "1")
    assert inference.binary == frozenset()


@pytest.mark.parametrize("data", [[0, 1, 2, 3, 4, 255], [[[0, 1, 2], [3, 4, 255]]]])
def test_pixels_may_be_numbers_of_json(data):
    body = json.dumps({"inputs": [{**PIXELS, "shape": [1, 2, 3], "data": data}]}).encode()
    request = request_from_http("tandem", "", body, None).request
    assert pictures_of(request.inputs)[0].data == bytes([0, 1, 2, 3, 4, 255])


@pytest.mark.parametrize(
    ("body", "length", "words"),
    [
        (b"", None, "no JSON"),
        (b"{", None, "no JSON"),
        (b"[" * 100_000, None, "no JSON"),
        (b"\xff{}", None, "no JSON"),
        (b"[]", None, "^the request is no JSON object$"),
        (b"{}", None, "inputs"),
        (b'{"inputs": [7]}', None, "^inputs.0: keys with their values are expected here$"),
        (b'{"inputs": [{}]}', None, "inputs.0.name"),
        (b'{"inputs": [], "id": 7}', None, "id"),
        (b"{}", "3", "Inference-Header-Content-Length"),
        (b"{}", "-1", "Inference-Header-Content-Length"),
        (b"{}", "two", "Inference-Header-Content-Length"),
        (b'{"inputs": []}x', "14", "1 bytes follow"),
        (binary_body(IMAGE, b"")[0] + b"x", str(len(binary_body(IMAGE, b"")[0])), "bytes follow"),
        (*binary_body({**IMAGE, "parameters": {"binary_data_size": 9}}, b"a"), "1 bytes are left"),
        (*binary_body({**IMAGE, "parameters": {"binary_data_size": True}}, b"a"), "are left"),
        (*binary_body({**IMAGE, "data": ["a"]}, b"a"), "both data and"),
        (json.dumps({"inputs": [{**IMAGE, "data": ["a"]}]}).encode(), None, "binary tensor"),
        (json.dumps({"inputs": [{**PIXELS, "data": [1, 256]}]}).encode(), None, "numbers to 255"),
        (json.dumps({"inputs": [{**PIXELS, "data": [-1]}]}).encode(), None, "numbers to 255"),
        (json.dumps({"inputs": [{**PIXELS, "data": [0.5]}]}).encode(), None, "numbers to 255"),
        (json.dumps({"inputs": [{**PIXELS, "data": ["a"]}]}).encode(), None, "numbers to 255"),
        (json.dumps({"inputs": [{**PIXELS, "data": [[1], [1, 2]]}]}).encode(), None, "differ"),
        (json.dumps({"inputs": [{**PIXELS, "data": [1 << 70]}]}).encode(), None, "to 255"),
        (json.dumps({"inputs": [{**PIXELS, "shape": [10**4000] * 2}]}).encode(), None, "shape.0"),
        (json.dumps({"inputs": [{**PIXELS, "shape": [1] * 9}]}).encode(), None, "at most 8"),
        (json.dumps({"inputs": [PIXELS] * 129}).encode(), None, "at most 128"),
        (b'{"inputs": [], "parameters": {"a": null}}', None, "^parameters.a: a parameter is a"),
    ],
)
def test_a_bad_request_over_http(body, length, words):
    with pytest.raises(InvalidInputError, match=words):
        request_from_http("tandem", "", body, length)


def test_answers_over_http_are_json_or_binary_as_asked_for():
    body, length = binary_body(
        IMAGE,
        FILE,
        outputs=[{"name": "boxes", "parameters": {"binary_data": True}}, {"name": "labels"}],
    )
    inference = request_from_http("tandem", "", body, length)
    content, headers = response_to_http(inference, [FOUND[0], FOUND[3]])
    size = int(headers["Inference-Header-Content-Length"])
    told = json.loads(content[:size])
    assert told["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert told["outputs"][1]["data"] == ["car"]
    assert np.frombuffer(content[size:], "<f4").tolist() == [1, 2, 3, 4]
    plain = request_from_http("tandem", "", *binary_body(IMAGE, FILE))
    content, headers = response_to_http(plain, FOUND)
    assert headers == {"content-type": "application/json"}
    assert json.loads(content)["outputs"][0]["data"] == [1.0, 2.0, 3.0, 4.0]
    every = binary_body(IMAGE, FILE, parameters={"binary_data_output": True})
    assert len(request_from_http("tandem", "", *every).binary) == 5
