"""A bundle of format 2, between whose halves two tensors cross, through real services."""

import asyncio
from contextlib import closing

import numpy as np
import pytest
from google.rpc import code_pb2

from common.bundle import load_bundle
from common.codec import CutCodec
from common.domain.codec import FEATURE_CODECS, LATENT_CODECS, Codec
from common.domain.detections import DetectionOptions
from common.domain.frames import EncodedImage
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.vision.decode import decode_image
from common.vision.postprocess import detections
from common.vision.preprocess import preprocess
from common.wire.frames import codec_to_wire
from protos.tandem.v1 import detector_pb2, tensor_pb2
from tests.harness import TOY_TENSORS, Cluster
from tests.streams import boxes, detect, frame, jpeg, options

# None has the input's shape: 112 x 80.
SIZES = [(120, 160), (160, 120), (90, 90), (40, 300)]
FRAMES = [jpeg(number, *SIZES[number % 4]) for number in range(24)]
REQUESTS = [frame(number, data) for number, data in enumerate(FRAMES)]
PLACEMENTS = ["FULL", "BACKBONE", "TRANSFORMER", "WORKSTATION"]


@pytest.fixture(scope="module")
def cluster():
    """Frames of several streams may be executed together."""
    batches = ("--max-batch", "4", "--batch-wait-milliseconds", "2")
    running = Cluster(TOY_TENSORS, stage_arguments=batches)
    yield running
    running.close()


class Whole:
    """Both halves in this process, and the features between them by a codec."""

    def __init__(self):
        self.bundle = load_bundle(TOY_TENSORS)
        self.codecs = CutCodec(self.bundle.manifest)

    def answers(self, codec):
        """Of each frame: its boxes, and the bytes of its features."""
        bundle = self.bundle
        with closing(load_engine("onnxruntime", bundle.onnx_path(Stage.BACKBONE), 1)) as backbone:
            prepared = [self._prepared(data) for data in FRAMES]
            features = [backbone.run({"pixels": pixels}) for pixels, _ in prepared]
        encoded = [self.codecs.encode(each, codec) for each in features]
        path = bundle.onnx_path(Stage.TRANSFORMER)
        with closing(load_engine("onnxruntime", path, 1)) as transformer:
            outputs = [transformer.run(self.codecs.decode(each)) for each in encoded]
        found = [self._found(*each) for each in zip(outputs, prepared)]
        return found, [sum(len(tensor.data) for tensor in each) for each in encoded]

    def _prepared(self, data):
        manifest = self.bundle.manifest
        rgb = decode_image(EncodedImage(data), 10**6)
        return preprocess(rgb, manifest.input, manifest.normalization)

    def _found(self, outputs, prepared):
        manifest = self.bundle.manifest
        logits, sides = outputs["logits"][0], outputs["boxes"][0]
        everything = DetectionOptions(score_threshold=0.0)
        found = detections(
            logits, sides, prepared[1], manifest.categories, everything, scoring=manifest.scoring
        )
        return np.array(
            [[each.category_id, each.score, *vars(each.box).values()] for each in found]
        )


@pytest.fixture(scope="module")
def whole():
    return Whole()


def test_the_toy_tells_pictures_and_levels_apart(whole):
    """Or the tests below would not notice what is lost on the way."""
    bundle, tensors = whole.bundle, whole._prepared(FRAMES[0])[0]
    with closing(load_engine("onnxruntime", bundle.onnx_path(Stage.BACKBONE), 1)) as backbone:
        features = backbone.run({"pixels": tensors})
    path = bundle.onnx_path(Stage.TRANSFORMER)
    with closing(load_engine("onnxruntime", path, 1)) as transformer:
        exact = transformer.run(features)["boxes"]
        for name, values in features.items():
            changed = {**features, name: values * 1.05}
            assert np.abs(transformer.run(changed)["boxes"] - exact).max() > 1e-3, name
        turned = {**features, "features_16": features["features_16"][..., ::-1].copy()}
        assert np.abs(transformer.run(turned)["boxes"] - exact).max() > 1e-3
    found, _ = whole.answers(Codec.FP32)
    assert min(np.abs(a[:3] - b[:3]).max() for a, b in zip(found, found[1:])) > 1


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_every_placement_equals_the_halves_in_one_process(cluster, whole, placement):
    value = detector_pb2.Placement.Value(f"PLACEMENT_{placement}")
    chosen = options(placement=value, codec=tensor_pb2.CODEC_FP32)
    answers = await detect(cluster.address, [chosen, *REQUESTS])
    expected, sizes = whole.answers(Codec.FP32)
    assert [each.frame_id for each in answers] == list(range(24))
    for answer, exact, size in zip(answers, expected, sizes):
        assert answer.timing.transformer.request_bytes == size == 4 * (6 * 5 * 7 + 10 * 3 * 4)
        np.testing.assert_array_equal(boxes(answer)[:, 0], exact[:, 0])
        np.testing.assert_allclose(boxes(answer), exact, atol=1e-3)


@pytest.mark.parametrize("codec", FEATURE_CODECS)
async def test_every_codec_gives_the_bytes_and_boxes_of_its_own_tensors(cluster, whole, codec):
    chosen = options(placement=detector_pb2.PLACEMENT_BACKBONE, codec=codec_to_wire(codec))
    answers = await detect(cluster.address, [chosen, *REQUESTS])
    expected, sizes = whole.answers(codec)
    assert [each.timing.transformer.request_bytes for each in answers] == sizes
    for answer, exact in zip(answers, expected):
        np.testing.assert_allclose(boxes(answer), exact, atol=2e-2)


async def test_several_streams_at_once(cluster, whole):
    expected, _ = whole.answers(Codec.FP16)

    async def stream(offset):
        own = [frame(number, FRAMES[(number + offset) % 24]) for number in range(24)]
        return await detect(cluster.address, [options(), *own])

    for offset, answers in enumerate(await asyncio.gather(*(stream(each) for each in range(3)))):
        for number, answer in enumerate(answers):
            np.testing.assert_allclose(boxes(answer), expected[(number + offset) % 24], atol=2e-2)


@pytest.mark.parametrize("codec", LATENT_CODECS)
async def test_latents_are_refused_by_a_clear_sentence(cluster, codec):
    answers = await detect(cluster.address, [options(codec=codec_to_wire(codec)), *REQUESTS[:2]])
    assert [each.error.code for each in answers] == [code_pb2.FAILED_PRECONDITION] * 2
    assert "only a plain DETR can have so far" in answers[0].error.message
    assert "of the family toy" in answers[0].error.message
