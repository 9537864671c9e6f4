"""Boxes through the services equal those of the torch model run whole."""

import numpy as np
import pytest

from common.bundle import load_bundle
from common.domain.detections import DetectionOptions
from common.domain.frames import EncodedImage
from common.vision.decode import decode_image
from common.vision.postprocess import detections
from common.vision.preprocess import preprocess
from protos.tandem.v1 import detector_pb2, tensor_pb2
from tests.harness import ROOT, Cluster
from tests.streams import boxes, detect, frame, jpeg, options

BUNDLE = ROOT / "tests/data/demo-r18"
# Landscape, portrait and square: two of the three are letterboxed.
SIZES = [(240, 320), (320, 240), (200, 200)]
FRAMES = [jpeg(number, *SIZES[number % 3]) for number in range(30)]


@pytest.fixture(scope="module")
def whole_model_boxes():
    """Each frame's boxes by the torch model in one piece."""
    torch = pytest.importorskip("torch")
    from detr.demo_bundle import demo_model

    model = demo_model()
    manifest = load_bundle(BUNDLE).manifest
    answers = []
    for data in FRAMES:
        rgb = decode_image(EncodedImage(data), 10**6)
        pixels, geometry = preprocess(rgb, manifest.input, manifest.normalization)
        padding = np.ones((1, geometry.input_height, geometry.input_width), bool)
        padding[:, : geometry.valid_height, : geometry.valid_width] = False
        with torch.inference_mode():
            output = model(torch.from_numpy(pixels), torch.from_numpy(padding))
        found = detections(
            output.logits[0].numpy(),
            output.boxes[0].numpy(),
            geometry,
            manifest.categories,
            DetectionOptions(score_threshold=0.0),
            scoring=manifest.scoring,
        )
        answers.append(
            np.array(
                [
                    [each.category_id, each.score]
                    + [each.box.x_min, each.box.y_min, each.box.x_max, each.box.y_max]
                    for each in found
                ]
            )
        )
    return answers


@pytest.fixture(scope="module")
def cluster():
    running = Cluster(BUNDLE)
    yield running
    running.close()


def difference(actual, expected):
    """The largest of any row from its nearest counterpart, both ways.

    Rows cannot be compared one by one: the last bits of two near-equal scores decide their order.
    """
    distances = np.abs(actual[:, None] - expected[None]).max(axis=-1)
    return max(distances.min(axis=0).max(), distances.min(axis=1).max())


@pytest.mark.parametrize("placement", ["FULL", "BACKBONE", "TRANSFORMER", "WORKSTATION"])
async def test_every_placement_equals_the_whole_model(cluster, whole_model_boxes, placement):
    value = detector_pb2.Placement.Value(f"PLACEMENT_{placement}")
    requests = [
        options(placement=value, codec=tensor_pb2.CODEC_FP32),
        *(frame(number, data) for number, data in enumerate(FRAMES)),
    ]
    responses = await detect(cluster.address, requests)
    assert len(responses) == 30
    for response, expected in zip(responses, whole_model_boxes):
        actual = boxes(response)
        assert actual.shape == expected.shape
        assert difference(actual, expected) < 1e-3
