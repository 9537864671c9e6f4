"""`--jpeg-decoding halved` is for large JPEGs alone, and leaves everything else as it is."""

import json

import numpy as np
import pytest

from common.domain.placement import Stage
from common.server.options import channel_options
from common.wire.connections import open_channel
from common.wire.stage_client import StageStream
from protos.tandem.v1 import detector_pb2, stage_pb2
from tests.harness import TOY_BUNDLE, ServiceProcess
from tests.streams import encoded, picture

ARGUMENTS = ("--bundle", str(TOY_BUNDLE), "--port", "0", "--metrics-port", "0", "--node", "edge")


@pytest.fixture(scope="module")
def backbones():
    """The usual one, and one that decodes large JPEGs to half their size."""
    transformer = ServiceProcess("services.transformer", *ARGUMENTS)
    into = ("--transformers", json.dumps({"edge": transformer.address}))
    whole = ServiceProcess("services.backbone", *ARGUMENTS, *into)
    halved = ServiceProcess("services.backbone", *ARGUMENTS, *into, "--jpeg-decoding", "halved")
    yield whole, halved
    for each in (whole, halved, transformer):
        each.close()


async def boxes(backbone, file):
    """What a backbone has its transformer find, as numbers."""
    opening = stage_pb2.BackboneOpen(
        context=stage_pb2.StreamContext(session_id="s", sender="test"), downstream_node="edge"
    )
    frame = detector_pb2.Frame(frame_id=1, encoded=file)
    async with open_channel(backbone.address, channel_options(1 << 24)) as channel:
        stream = await StageStream.open(
            channel, Stage.BACKBONE, stage_pb2.BackboneRequest(open=opening), "backbone"
        )
        result = await stream.ask(stage_pb2.BackboneRequest(frame=frame), 1)
        await stream.close()
    found = [(each.score, *_corners(each.box)) for each in result.detections.detections]
    assert found
    return np.array(found)


def _corners(box):
    return box.x_min, box.y_min, box.x_max, box.y_max


# The toy model's input has 96 x 128 pixels.
@pytest.mark.parametrize(
    ("height", "width", "kind", "is_halved"),
    [(480, 640, ".jpg", True), (480, 640, ".png", False), (220, 300, ".jpg", False)],
)
async def test_large_jpegs_alone_are_halved(backbones, height, width, kind, is_halved):
    file = encoded(picture(1, height, width), kind)
    whole, halved = [await boxes(each, file) for each in backbones]
    assert np.array_equal(whole, halved) != is_halved
