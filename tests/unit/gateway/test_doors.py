"""The HTTP doors for single pictures on a real server, before a small real orchestrator."""

import asyncio
import gzip
import json
import time
from contextlib import asynccontextmanager
from http.client import HTTPConnection

import pytest
import yaml
from prometheus_client import CollectorRegistry

from common.security.tokens import TokenFiles, token_digest
from services.gateway.application import application_of
from services.gateway.callers import Callers
from services.gateway.cameras.feed import CameraFeed
from services.gateway.detection_api.door import DetectDoor, VisionDoor
from services.gateway.detection_pool import DetectionPool
from services.gateway.door import Gateway
from services.gateway.gatekeeper import Gatekeeper
from services.gateway.http_server import HttpServer
from services.gateway.open_inference.door import OpenInferenceDoor
from services.gateway.picture_metrics import PictureMetrics
from services.gateway.settings import GatewaySettings
from tandem.client import DetectorClient
from tests.integration.tandem.toy_orchestrator import ToyDetector, serving
from tests.waiting import PATIENCE_SECONDS

ROLES = ("client", "operator", "monitor")
FORM = {"content-type": "multipart/form-data; boundary=x"}
FORM_LINE = "content-type: multipart/form-data; boundary=x\r\n"


def form(api_key=None):
    key = (
        ""
        if api_key is None
        else (f'--x\r\nContent-Disposition: form-data; name="api_key"\r\n\r\n{api_key}\r\n')
    )
    image = '--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nfile\r\n'
    return (key + image + "--x--\r\n").encode()


def tensor():
    pixels = {"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 3]}
    return json.dumps({"inputs": [pixels]}).encode()


@asynccontextmanager
async def serving_doors(tokens, detector=None, draining=None, **settings):
    """The address of doors before a toy orchestrator."""
    async with serving(detector or ToyDetector()) as address, DetectorClient(address) as client:
        pool = DetectionPool(client, 4, PictureMetrics(CollectorRegistry()))
        gateway = Gateway(
            settings=GatewaySettings(**settings),
            client=client,
            credentials=None,
            pool=pool,
            cameras=CameraFeed(),
            callers=Callers(tokens),
            registry=CollectorRegistry(),
            draining=draining or asyncio.Event(),
        )
        doors = (VisionDoor(gateway), DetectDoor(gateway), OpenInferenceDoor(gateway))
        keeper = Gatekeeper(
            application_of(doors), doors, gateway.callers, frozenset(), gateway.draining
        )
        server = HttpServer(keeper, "127.0.0.1", 0, tls=None, grace_seconds=5.0)
        ended = asyncio.Event()
        work = asyncio.create_task(server.serve(ended))
        try:
            yield server.address
        finally:
            ended.set()
            await work
            server.close()
            await pool.close()


async def asked(address, method, path, body=b"", headers=None):
    """The status and the JSON of an answer."""

    def ask():
        connection = HTTPConnection(address.host, address.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            is_json = response.headers.get_content_type() == "application/json"
            return response.status, json.loads(content) if is_json and content else content
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


@pytest.fixture
def tokens(tmp_path):
    entries = [{"identity": f"{role}/ann", "sha256": token_digest(role)} for role in ROLES]
    path = tmp_path / "tokens.yaml"
    path.write_text(yaml.safe_dump({"tokens": entries}))
    return TokenFiles(path)


@pytest.mark.parametrize(
    ("api_key", "header", "status", "error"),
    [
        ("client", None, 200, None),
        ("operator", None, 200, None),
        (None, "Bearer client", 200, None),
        ("", None, 401, "Incorrect api key"),
        (None, None, 401, "Incorrect api key"),
        ("geheim", None, 401, "Incorrect api key"),
        ("client", "Bearer geheim", 401, "Incorrect api key"),
        ("monitor", None, 403, "access denied"),
    ],
)
async def test_a_token_is_the_api_key(tokens, api_key, header, status, error):
    headers = {**FORM, **({"authorization": header} if header else {})}
    async with serving_doors(tokens) as address:
        for path in ("/v1/vision/detection", "/v1/vision/custom/tandem"):
            found, told = await asked(address, "POST", path, form(api_key), headers)
            assert (found, told.get("error")) == (status, error)
            assert told["success"] is (status == 200)


async def test_the_other_doors_want_a_header(tokens):
    bearer = {"authorization": "Bearer client"}
    async with serving_doors(tokens) as address:
        status, told = await asked(address, "POST", "/detect", b"file")
        assert (status, told["error"]["code"]) == (401, "UNAUTHENTICATED")
        status, told = await asked(address, "GET", "/v2/models/tandem")
        assert (status, "token" in told["error"]) == (401, True)
        status, _ = await asked(address, "POST", "/detect", b"file", bearer)
        assert status == 200
        status, _ = await asked(address, "GET", "/v2/models/tandem", headers=bearer)
        assert status == 200
        # What shows the way in, and tells no more than that the gateway runs.
        for path in ("/docs", "/openapi.json", "/v1/status/ping"):
            assert (await asked(address, "GET", path))[0] == 200


@pytest.mark.parametrize(
    "request_json",
    [
        b'{"inputs": [], "parameters": {"score_threshold": 1' + b"0" * 400 + b"}}",
        b'{"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 3], '
        b'"parameters": {"binary_data_size": "\\ud800"}}]}',
    ],
    ids=["a number beyond all floats", "half a character"],
)
async def test_json_that_python_cannot_hold_is_bad_input(request_json):
    async with serving_doors(None) as address:
        status, told = await asked(address, "POST", "/v2/models/tandem/infer", request_json)
    assert status == 400
    assert "score_threshold" in told["error"] or "binary_data_size" in told["error"]


async def test_a_form_in_a_charset_that_decodes_nothing_is_malformed():
    headers = {"content-type": FORM["content-type"] + "; charset=undefined"}
    async with serving_doors(None) as address:
        status, told = await asked(address, "POST", "/v1/vision/detection", form(), headers)
    assert (status, "malformed" in told["error"]) == (400, True)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v1/vision/detection", lambda told: told["error"]),
        ("/detect", lambda told: told["error"]["message"]),
        ("/v2/models/tandem/infer", lambda told: told["error"]),
    ],
)
async def test_a_compressed_request_is_refused_in_each_doors_words(path, sentence):
    headers = {**FORM, "content-encoding": "gzip"}
    async with serving_doors(None) as address:
        status, told = await asked(address, "POST", path, gzip.compress(form()), headers)
        plain, _ = await asked(
            address, "POST", "/detect", form(), {**FORM, "content-encoding": "identity"}
        )
    assert (status, "compressed" in sentence(told)) == (415, True)
    assert plain == 200


async def test_of_several_parts_of_one_name_the_first_counts():
    parts = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{content}\r\n'
        for name, more, content in (
            ("file", '; filename="a"', "first"),
            ("file", '; filename="b"', "the second"),
            ("min_confidence", "", "0.2"),
            ("min_confidence", "", "2"),
        )
    )
    async with serving_doors(None) as address:
        body = f"{parts}--x--\r\n".encode()
        status, told = await asked(address, "POST", "/v1/vision/detection", body, FORM)
    # A box is as wide as its picture has bytes.
    assert (status, told["predictions"][0]["x_max"]) == (200, 1 + len("first"))


@pytest.mark.parametrize("path", ["/v1/vision/detection", "/detect"])
async def test_a_picture_needs_no_name_of_its_file(path):
    picture = "x" * 10_000
    part = f'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n{picture}\r\n--x--\r\n'
    async with serving_doors(None) as address:
        status, told = await asked(address, "POST", path, part.encode(), FORM)
    assert status == 200, told


async def test_a_slash_at_the_end_leads_to_the_path_without_it(tokens):
    async with serving_doors(tokens) as address:
        for path in ("/v1/vision/detection", "/docs", "/v1/status/ping"):
            assert (await asked(address, "POST", f"{path}/", form("client"), FORM))[0] == 307
        status, told = await asked(address, "POST", "/detect/", b"file")
        assert (status, told["error"]["code"]) == (401, "UNAUTHENTICATED")


async def test_a_head_is_answered_as_its_get_without_the_body():
    async with serving_doors(None) as address:
        for path in ("/v1/status/ping", "/v2/health/live", "/docs", "/openapi.json"):
            assert await asked(address, "HEAD", path) == (200, b"")


async def test_who_waits_for_a_word_before_the_body_is_refused_at_once():
    head = (
        "POST /detect HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\n"
        "Content-Length: 99999999\r\n\r\n"
    )
    async with serving_doors(None) as address, asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(head.encode())
        assert (await reader.readline()).split()[1] == b"413"
        writer.close()


async def test_an_origin_that_is_no_address_is_another_sites():
    async with serving_doors(None) as address:
        status, _ = await asked(address, "POST", "/detect", b"file", {"origin": "http://["})
    assert status == 421


async def test_the_limit_of_requests_is_told_in_each_doors_words():
    limits = {"detection_api_max_requests_per_second": 0.001}
    async with serving_doors(None, **limits) as address:
        for path, words in (
            ("/v1/vision/detection", lambda told: told["error"]),
            ("/detect", lambda told: told["error"]["message"]),
        ):
            answers = [await asked(address, "POST", path, form(), FORM) for _ in range(11)]
            assert [status for status, _ in answers] == [200] * 10 + [429]
            assert "requests a second" in words(answers[-1][1])


async def test_what_a_caller_that_leaves_sent_is_not_served_to_the_end():
    detector = ToyDetector()
    detector.gate.clear()
    async with serving_doors(None, detector) as address:
        for path in ("/v1/vision/detection", "/detect", "/v2/models/tandem/infer"):
            detector.received.clear()
            detector.ended.clear()
            _, writer = await asyncio.open_connection(address.host, address.port)
            body, more = (tensor(), "") if path.startswith("/v2") else (form(), FORM_LINE)
            head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}{more}\r\n".encode() + body)
            async with asyncio.timeout(20):
                while not detector.received:
                    await asyncio.sleep(0)
                writer.close()
                await detector.ended.wait()


async def test_what_is_under_way_is_answered_when_the_gateway_ends_and_nothing_else():
    detector, draining = ToyDetector(), asyncio.Event()
    detector.gate.clear()
    async with serving_doors(None, detector, draining) as address:
        under_way = asyncio.create_task(asked(address, "POST", "/detect", b"file"))
        async with asyncio.timeout(20):
            while not detector.received:
                await asyncio.sleep(0)
        draining.set()
        for path, sentence in (
            ("/v1/vision/detection", lambda told: told["error"]),
            ("/detect", lambda told: told["error"]["message"]),
            ("/v2/models/tandem/infer", lambda told: told["error"]),
        ):
            status, told = await asked(address, "POST", path, form(), FORM)
            assert (status, sentence(told)) == (503, "the gateway is ending")
        detector.gate.set()
        status, told = await under_way
        assert (status, len(told["detections"])) == (200, 1)


async def test_answers_do_not_wait_for_acknowledgements():
    async with serving_doors(None) as address:
        head = b"GET /v1/status/ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        reader, writer = await asyncio.open_connection(address.host, address.port)
        seconds = []
        for _ in range(30):
            began_at = time.perf_counter()
            writer.write(head)
            await reader.readuntil(b'"success":true}')
            seconds.append(time.perf_counter() - began_at)
        writer.close()
    # The kernel waits for 40 ms, each time but the first few.
    assert min(seconds[3:]) < 0.03
