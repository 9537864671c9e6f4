"""The sizes that the experiment works out are those of what the backbone writes."""

import numpy as np
import pytest

from common.bundle import load_bundle
from common.codec import FeatureCodec, LatentCoders, LatentEncoder
from common.domain.codec import Codec, EncodedFeatures
from common.vision.preprocess import input_geometry
from common.wire.feature_messages import FeatureMessages
from common.wire.frames import features_to_wire
from experiments.rate_accuracy.messages import (
    features_message_bytes,
    image_message_bytes,
    predicted_message_bytes,
)
from protos.tandem.v1 import detector_pb2, stage_pb2
from tests.harness import TOY_BUNDLE

SIZE = (360, 480)


def written(features):
    request = stage_pb2.TransformerRequest(features=features_to_wire(features))
    return len(request.SerializeToString())


def sizes_written(coded):
    """Of the messages of one stream."""
    messages = FeatureMessages(takes_next_latents=True)
    return [len(messages.of(features).SerializeToString()) for features in coded]


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(TOY_BUNDLE)


@pytest.mark.parametrize("codec", [Codec.LATENT_FINE, Codec.LATENT_COARSE])
def test_messages_of_latents(bundle, codec):
    encoder = LatentEncoder(codec, LatentCoders.of_bundle(bundle).of(codec))
    geometry = input_geometry(*SIZE, bundle.manifest.input)
    rng = np.random.default_rng(1)
    shape = (300, 1, bundle.manifest.bottleneck.channels, 3, 4)
    latents = rng.integers(-90, 90, shape).astype(np.float32)
    coded = [encoder.encode(number, each, geometry) for number, each in enumerate(latents)]
    first, *others = [each.payload_bytes for each in coded]
    own = [features_message_bytes(first, 0, SIZE, bundle.manifest, codec)]
    own += map(predicted_message_bytes, others)
    assert own == sizes_written(coded)


def test_messages_of_features(bundle):
    manifest = bundle.manifest
    geometry = input_geometry(*SIZE, manifest.input)
    values = np.ones((1, manifest.feature_channels, 3, 4), np.float32)
    tensor = FeatureCodec(manifest.codec.calibration).encode(values, Codec.FP32)
    for frame_id in (0, 1, 200):
        features = EncodedFeatures(frame_id, (tensor,), geometry)
        own = features_message_bytes(len(tensor.data), frame_id, SIZE, manifest, Codec.FP32)
        assert own == written(features)


def test_messages_of_pictures():
    for frame_id, size in ((0, 10), (7, 20_000), (300, 127)):
        frame = detector_pb2.Frame(frame_id=frame_id, encoded=bytes(size))
        request = stage_pb2.BackboneRequest(frame=frame)
        assert image_message_bytes(size, frame_id) == len(request.SerializeToString())
