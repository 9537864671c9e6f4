"""Requests as Frigate, Blue Iris, Home Assistant and scripts send them, and bad ones."""

import queue
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest

from protos.inference import open_inference_pb2, open_inference_pb2_grpc
from tandem.client import DetectorClient
from tests.harness import Cluster
from tests.picture_doors import Caller, gateway_of
from tests.streams import encoded, jpeg, picture
from tests.waiting import wait_until

VISION = "/v1/vision/detection"


def form(parts, boundary="0123456789abcdef"):
    """A form as its client writes it, to the byte: the headers of each part, and its content."""
    body = b"".join(
        b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary.encode(), headers.encode(), content)
        for headers, content in parts
    )
    content_type = f"multipart/form-data; boundary={boundary}"
    return body + b"--%s--\r\n" % boundary.encode(), {"content-type": content_type}


def as_frigate(data):
    """Frigate's detector: the library requests, a key even if it is empty, no confidence."""
    return form(
        [
            ('Content-Disposition: form-data; name="api_key"', b""),
            ('Content-Disposition: form-data; name="image"; filename="image"', data),
        ]
    )


def as_blue_iris(data):
    """Blue Iris: a file with a type, and the least confidence in hundredths."""
    return form(
        [
            ('Content-Disposition: form-data; name="min_confidence"', b"0.40"),
            (
                'Content-Disposition: form-data; name="image"; filename="front.jpg"\r\n'
                "Content-Type: image/jpeg",
                data,
            ),
        ],
        "----WebKitFormBoundaryx7",
    )


def as_dotnet(data):
    """Agent DVR and others on .NET: names without quotes, the boundary with them."""
    body, _ = form(
        [
            (
                "Content-Type: text/plain; charset=utf-8\r\n"
                "Content-Disposition: form-data; name=min_confidence",
                b"0.4",
            ),
            (
                "Content-Disposition: form-data; name=image; filename=frame.jpg; "
                "filename*=utf-8''frame.jpg",
                data,
            ),
        ],
        "8f7c4ae2",
    )
    return body, {"content-type": 'multipart/form-data; boundary="8f7c4ae2"'}


def as_home_assistant(data):
    """deepstack-python: as Frigate's, with another confidence."""
    return form(
        [
            ('Content-Disposition: form-data; name="api_key"', b"None"),
            ('Content-Disposition: form-data; name="min_confidence"', b"0.1"),
            ('Content-Disposition: form-data; name="image"; filename="image"', data),
        ]
    )


async def by_grpc(address, data, threshold):
    async with DetectorClient(address) as client:
        async for result in client.detect([data], score_threshold=threshold):
            return result.detections


@pytest.mark.parametrize("client", [as_frigate, as_blue_iris, as_dotnet, as_home_assistant])
async def test_an_nvr_gets_what_a_client_of_grpc_gets(system, caller, client):
    data = jpeg(3, 240, 320)
    body, headers = client(data)
    answer = caller.post(VISION, body, headers)
    assert answer.status == 200
    told = answer.json()
    threshold = 0.1 if client is as_home_assistant else 0.4
    expected = await by_grpc(system.address, data, threshold)
    assert told["success"] is True
    assert told["count"] == len(told["predictions"]) == len(expected) > 0
    for prediction, detection in zip(told["predictions"], expected, strict=True):
        assert prediction["label"] == detection.category_name
        assert prediction["confidence"] == pytest.approx(detection.score, abs=1e-4)
        for name, most in (("x_min", 320), ("y_min", 240), ("x_max", 320), ("y_max", 240)):
            within = min(max(getattr(detection.box, name), 0), most)
            assert isinstance(prediction[name], int)
            assert prediction[name] == pytest.approx(within, abs=0.51)
    confidences = [each["confidence"] for each in told["predictions"]]
    assert confidences == sorted(confidences, reverse=True)


def test_frigate_can_be_spared_more_than_it_reads(caller):
    body, headers = as_frigate(jpeg(3, 240, 320))
    address = f"{VISION}?max_detections=2&min_confidence=0.0"
    assert caller.post(address, body, headers).json()["count"] == 2


def test_what_blue_iris_and_agent_dvr_ask_beside_pictures(caller):
    assert caller.post("/v1/vision/custom/list").json()["models"] == ["tandem"]
    body, headers = as_blue_iris(jpeg(1))
    custom = caller.post("/v1/vision/custom/tandem", body, headers)
    assert custom.json()["success"] is True
    assert caller.get("/v1/status/ping").json() == {"success": True}
    assert caller.get("/v1/status/updateavailable").json()["updateAvailable"] is False
    assert caller.get("/v1/status/version").json()["version"]["major"] >= 0


IMAGE = 'Content-Disposition: form-data; name="image"; filename="a.jpg"'
CONFIDENCE = 'Content-Disposition: form-data; name="min_confidence"'


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([], "No valid image file found"),
        ([(CONFIDENCE, b"0.4")], "No valid image file found"),
        ([(IMAGE, b"")], "No valid image file found"),
        ([(IMAGE, b"no picture")], "neither JPEG nor PNG"),
        ([(IMAGE, jpeg(0)[:900])], "cut off"),
        ([(IMAGE, b"GIF89a" + bytes(40))], "neither JPEG nor PNG"),
        ([(IMAGE, jpeg(0)), (CONFIDENCE, b"0,4")], "Invalid value for min_confidence"),
        ([(IMAGE, jpeg(0)), (CONFIDENCE, b"nan")], "Invalid value for min_confidence"),
        ([(IMAGE, jpeg(0)), (CONFIDENCE, b"inf")], "Invalid value for min_confidence"),
        ([(IMAGE, jpeg(0)), (CONFIDENCE, b"1.5")], "min_confidence cannot be greater than 1"),
        ([(CONFIDENCE, b"0.4")] * 40, "malformed"),
        ([(IMAGE, b"x")] * 8, "malformed"),
        ([(CONFIDENCE, b"1" * 5000)], "malformed"),
    ],
)
def test_bad_input_in_the_apis_own_words(caller, parts, words):
    body, headers = form(parts)
    answer = caller.post(VISION, body, headers)
    assert answer.status == 400
    told = answer.json()
    assert (told["success"], told["code"]) == (False, 400)
    assert words in told["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", VISION, 405),
        ("POST", "/v1/vision/face", 404),
        ("POST", "/v1/vision/custom/another", 404),
        ("GET", "/v1/status/nothing", 404),
        ("POST", "/v1/image/alpr", 404),
        ("GET", "/v1/server/status", 404),
    ],
)
def test_what_the_api_does_not_have(caller, method, path, status):
    answer = caller.request(method, path)
    assert answer.status == status
    assert answer.json()["success"] is False


@pytest.mark.parametrize("path", [VISION, "/detect"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large(caller, path, chunked):
    content = (bytes(65_536) for _ in range(9)) if chunked else bytes(9 * 65_536)
    answer = caller.post(path, content)
    assert answer.status == 413
    assert "524288 bytes" in str(answer.json()["error"])


async def test_detect_answers_as_the_command_does(system, caller):
    data = encoded(picture(5, 200, 300), ".png")
    body, headers = form([(IMAGE, data)])
    plain = caller.post("/detect?threshold=0.3", data)
    parted = caller.post("/detect?threshold=0.3", body, headers)
    expected = await by_grpc(system.address, data, 0.3)
    for answer in (plain.json(), parted.json()):
        assert [each["category_name"] for each in answer["detections"]] == [
            each.category_name for each in expected
        ]
        assert answer["detections"][0]["box"] == pytest.approx(
            list(vars(expected[0].box).values()), abs=0.01
        )
        assert (answer["error"], answer["dropped"]) == (None, False)
        assert answer["timing"]["backbone"]["node"] in ("edge", "workstation")


@pytest.mark.parametrize(
    ("query", "content", "words"),
    [
        ("", b"", "no picture"),
        ("", b"no picture", "neither JPEG nor PNG"),
        ("?threshold=2", jpeg(0), "0 to 1"),
        ("?threshold=high", jpeg(0), "0 to 1"),
        ("?max_detections=-1", jpeg(0), "0 or more"),
        ("?max_detections=1.5", jpeg(0), "0 or more"),
    ],
)
def test_detect_tells_what_is_wrong(caller, query, content, words):
    answer = caller.post(f"/detect{query}", content)
    assert answer.status == 400
    error = answer.json()["error"]
    assert error["code"] == "INVALID_ARGUMENT"
    assert words in error["message"]


def test_the_page_needs_nothing_from_elsewhere(caller):
    described = caller.get("/openapi.json").json()
    assert {"/detect", VISION, "/v2/models/{name}/infer"} <= set(described["paths"])
    page = caller.get("/docs")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "http" not in page.content.decode().replace("http-equiv", "")
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert f"docs/{name}" in page.content.decode()
        assert len(caller.get(f"/docs/{name}").content) > 50
    assert caller.get("/docs/../../etc/passwd").status == 404


def test_bad_pictures_and_callers_that_leave_harm_no_others(caller):
    good, bad = jpeg(2, 240, 320), jpeg(2, 240, 320)[:800]

    def ask(number):
        body, headers = as_frigate(bad if number % 3 == 0 else good)
        if number % 5 == 0:
            # It sends its picture and leaves before the answer.
            connection = caller.connect()
            connection.request("POST", VISION, body, headers)
            connection.close()
            return None
        answer = caller.post(VISION, body, headers)
        found = answer.json().get("predictions")
        return answer.status, found and [each["label"] for each in found]

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(ask, range(48)))
    expected = answers[1][1]
    assert len(expected) > 0
    for number, answer in enumerate(answers):
        if number % 5:
            assert answer == ((400, None) if number % 3 == 0 else (200, expected)), number


def inference(file):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
    return open_inference_pb2.ModelInferRequest(
        model_name="tandem", inputs=[{**tensor, "contents": {"bytes_contents": [file]}}]
    )


def test_an_orchestrator_that_is_away_or_has_no_nodes():
    system = Cluster(nodes=("edge",), orchestrator_arguments=("--unavailable-after", "0.2"))
    try:
        with ExitStack() as stack:
            doors = ("--detection-api", "--open-inference")
            gateway = stack.enter_context(gateway_of(system.address, *doors))
            caller = Caller(gateway)
            body, headers = as_frigate(jpeg(0))
            assert caller.post(VISION, body, headers).status == 200
            assert wait_until(lambda: caller.get("/v2/health/ready").status == 200)
            system.stages["edge.transformer"].kill()
            for _ in range(2):
                answer = caller.post(VISION, body, headers)
                assert (answer.status, answer.json()["success"]) == (503, False)
                system.orchestrator.kill()
            answer = caller.post("/detect", jpeg(0))
            assert (answer.status, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
            assert caller.get("/v2/health/ready").status == 503
            assert caller.get("/v2/health/live").status == 200
            channel = stack.enter_context(grpc.insecure_channel(gateway.address))
            stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            requests = queue.SimpleQueue()
            answers = stub.ModelStreamInfer(iter(requests.get, None))
            requests.put(inference(b"picture"))
            assert "no Tandem orchestrator answers" in next(answers).error_message
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(inference(b"picture"))
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert gateway.terminate() == 0
            with pytest.raises(grpc.RpcError) as ended:
                next(answers)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "ending" in ended.value.details()
    finally:
        system.close()
