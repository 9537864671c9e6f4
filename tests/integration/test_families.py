"""Models of every family through running services detect what transformers' whole model detects."""

from pathlib import Path

import numpy as np
import pytest

from common.bundle import load_bundle
from common.domain.detections import DetectionOptions
from common.vision.postprocess import detections
from protos.tandem.v1 import detector_pb2, tensor_pb2
from tests.harness import Cluster
from tests.streams import boxes, detect, options
from tests.tiny_families import frames, prepared

FOLDER = Path(__file__).parents[1] / "data" / "families"


def expected_rows(name):
    """Category, score and box of everything that the whole model detects in each frame."""
    manifest = load_bundle(FOLDER / name).manifest
    _, geometry = prepared(frames(), manifest.input, manifest.normalization)
    with np.load(str(FOLDER / (name + ".npz"))) as told:
        outputs = list(zip(told["logits"], told["boxes"]))
    answers = []
    for logits, corners in outputs:
        found = detections(
            logits,
            corners,
            geometry,
            manifest.categories,
            DetectionOptions(score_threshold=0.0),
            scoring=manifest.scoring,
        )
        answers.append(
            np.array(
                [
                    [e.category_id, e.score, e.box.x_min, e.box.y_min, e.box.x_max, e.box.y_max]
                    for e in found
                ]
            )
        )
    return answers


def raw(number, rgb):
    height, width = rgb.shape[:2]
    picture = detector_pb2.RawImage(
        width=width,
        height=height,
        pixel_format=detector_pb2.PIXEL_FORMAT_RGB8,
        data=rgb.tobytes(),
    )
    return detector_pb2.DetectRequest(frame=detector_pb2.Frame(frame_id=number, raw=picture))


def logit(scores):
    return np.log(scores / (1 - scores))


@pytest.mark.parametrize("name", ["conditional_detr", "d_fine", "rf_detr", "rt_detr_v2"])
async def test_services_equal_the_whole_model(name):
    cluster = Cluster(FOLDER / name)
    try:
        requests = [
            options(placement=detector_pb2.PLACEMENT_BACKBONE, codec=tensor_pb2.CODEC_FP32),
            *(raw(number, rgb) for number, rgb in enumerate(frames())),
        ]
        responses = await detect(cluster.address, requests)
    finally:
        cluster.close()
    assert len(responses) == 2
    for response, expected in zip(responses, expected_rows(name)):
        actual = boxes(response)
        assert len(actual) >= 12
        np.testing.assert_array_equal(actual[:, 0], expected[:, 0])
        assert np.abs(logit(actual[:, 1]) - logit(expected[:, 1])).max() < 1e-4
        assert np.abs(actual[:, 2:] - expected[:, 2:]).max() < 0.1
