"""An unchanged tritonclient against the gateway, over gRPC and HTTP."""

import json
import subprocess
import sys

import pytest

from tandem.client import DetectorClient
from tests.harness import ROOT
from tests.streams import encoded, picture

PICTURE = picture(7, 96, 128)
FILE = encoded(PICTURE, ".png")

# The status of gRPC, that of HTTP, and words of the sentence.
FAILURES = {
    "unknown model": ("NOT_FOUND", "404", "'other'; the model is 'tandem' or 'levels'"),
    "unknown version": ("NOT_FOUND", "404", "no version '2'"),
    "no model": ("NOT_FOUND", "404", "unknown model 'other'"),
    "unknown input": ("INVALID_ARGUMENT", "400", "unexpected input 'picture'"),
    "two inputs": ("INVALID_ARGUMENT", "400", "has 2 inputs"),
    "wrong datatype": ("INVALID_ARGUMENT", "400", "has to be BYTES"),
    "wrong shape": ("INVALID_ARGUMENT", "400", "[H,W,3]"),
    "no picture": ("INVALID_ARGUMENT", "400", "picture 2 of 2: the image is neither"),
    "unknown output": ("INVALID_ARGUMENT", "400", "unexpected output 'masks'"),
    "classification": ("UNIMPLEMENTED", "501", "not supported"),
    "bad parameter": ("INVALID_ARGUMENT", "400", "score_threshold"),
    "no config": ("NOT_FOUND", "404", "unknown model 'other'"),
    "statistics": ("UNIMPLEMENTED", "501", ""),
    "all statistics": ("UNIMPLEMENTED", "501", ""),
    "shared memory": ("UNIMPLEMENTED", "501", ""),
    "logging": ("UNIMPLEMENTED", "501", ""),
    "load": ("UNIMPLEMENTED", "501", "`tandem model deploy` changes them"),
    "unload": ("UNIMPLEMENTED", "501", "`tandem model deploy` changes them"),
}


async def by_grpc(address, model=""):
    async with DetectorClient(address) as client:
        async for result in client.detect([FILE], score_threshold=0.3, model=model):
            return result.detections


@pytest.fixture(scope="module")
def told(gateway):
    """What each step of `triton_client` told: of gRPC first, then of HTTP."""
    given = {
        "grpc": gateway.address,
        "http": gateway.announcement["http"].partition("//")[2],
        "file": FILE.hex(),
        "picture": PICTURE.tolist(),
    }
    run = subprocess.run(
        [sys.executable, "-m", "tests.integration.gateway.triton_client"],
        cwd=ROOT,
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    steps = {}
    for line in run.stdout.splitlines():
        each = json.loads(line)
        steps.setdefault(each["step"], []).append(each["told"])
    return steps


async def test_pictures_as_files_and_as_pixels(told, system):
    expected = await by_grpc(system.address)
    assert len(expected) > 0
    for name, pictures in (("files", 2), ("pixels", 1), ("batch", 2)):
        for found in told[name]:
            assert found["counts"] == [len(expected)] * pictures
            assert found["labels"] == [each.category_name for each in expected] * pictures
            assert found["class_ids"] == [each.category_id for each in expected] * pictures
            assert found["scores"] == pytest.approx(
                [each.score for each in expected] * pictures, abs=1e-3
            )
            boxes = [list(vars(each.box).values()) for each in expected] * pictures
            for box, wanted in zip(found["boxes"], boxes, strict=True):
                assert box == pytest.approx(wanted, abs=0.1)


async def test_a_further_model_is_known_by_the_name_that_it_has_at_the_stages(told, system):
    expected = await by_grpc(system.address, "levels")
    assert expected
    assert expected != await by_grpc(system.address)
    for found in told["by name"]:
        assert found["ready"]
        assert found["class_ids"] == [each.category_id for each in expected]
        assert found["scores"] == pytest.approx([each.score for each in expected], abs=1e-3)


def test_the_gateway_is_ready_over_both(told):
    assert told["ready"] == [[True, True, True]] * 2
    assert told["chosen"] == [["x", ["labels", "boxes"]]] * 2


def test_the_index_lists_every_model_by_name(told):
    expected = [[name, "1", "READY", ""] for name in ("tandem", "levels")]
    assert told["index"] == [expected] * 2


def test_the_configuration_is_the_same_over_both(told):
    head, *tensors, optional = told["config"][0]
    assert (head, optional) == (["levels", "tandem_detr", 0], [True, True])
    assert tensors[:2] == [
        ["image", "TYPE_STRING", [-1]],
        ["pixels", "TYPE_UINT8", [-1, -1, -1, 3]],
    ]
    assert told["config"][1] == told["config"][0]


@pytest.mark.parametrize("name", FAILURES)
def test_failures_in_the_protocols_words(told, name):
    over_grpc, over_http = (each[name] for each in told["failures"])
    status, http_status, words = FAILURES[name]
    assert over_grpc[0] == f"StatusCode.{status}"
    assert over_http[0] == http_status
    assert words in over_grpc[1]
    assert words in over_http[1]


def test_a_stream_answers_in_order_and_outlives_a_bad_request(told):
    (answers,) = told["stream"]
    assert "neither JPEG nor PNG" in answers[3]
    rest = [each for number, each in enumerate(answers) if number != 3]
    assert [int(each[0]) for each in rest] == [number for number in range(24) if number != 3]
    assert len({tuple(each[1]) for each in rest}) == 1
