"""What a transformer stage makes of the several tensors that a peer sends for a frame."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from common.bundle import load_bundle
from common.codec import CutCodec
from common.codec.base import MAX_FEATURE
from common.domain.codec import Codec, EncodedFeatures
from common.domain.errors import InvalidInputError, PreconditionError, TandemError
from common.domain.frames import FrameGeometry
from common.wire.frames import features_from_wire, features_to_wire
from protos.tandem.v1 import stage_pb2, tensor_pb2
from services.transformer.stage import ArrivedFeatures, TransformerStage
from tests.harness import TOY_BUNDLE, TOY_TENSORS

BUNDLE = load_bundle(TOY_TENSORS)
GEOMETRY = FrameGeometry(
    frame_height=120, frame_width=160, input_height=80, input_width=112, valid_height=80,
    valid_width=112,
)  # fmt: skip
SIZES = {"features_16": (1, 6, 5, 7), "features_32": (1, 10, 3, 4)}


def values():
    random = np.random.default_rng(0)
    return {name: random.normal(0, 1, size).astype(np.float32) for name, size in SIZES.items()}


def wire(codec=Codec.FP32, tensors=None):
    encoded = CutCodec(BUNDLE.manifest).encode(tensors or values(), codec)
    return features_to_wire(EncodedFeatures(3, encoded, GEOMETRY))


@pytest.fixture(scope="module")
def stage():
    return TransformerStage(BUNDLE)


def prepared(stage, message):
    arrived = features_from_wire(stage_pb2.Features.FromString(message.SerializeToString()))
    return stage.prepare(ArrivedFeatures(arrived, stage.latent_decoder()))


@pytest.mark.parametrize("codec", [Codec.FP32, Codec.INT8, Codec.Q4])
def test_all_levels_arrive_and_nothing_beside_them(stage, codec):
    message = wire(codec)
    assert len(message.further_tensors) == 1
    tensors = prepared(stage, message).tensors
    assert list(tensors) == list(SIZES)
    for name, exact in values().items():
        assert tensors[name].shape == SIZES[name]
        if codec is Codec.FP32:
            np.testing.assert_array_equal(tensors[name], exact)


def test_the_payload_is_that_of_all_tensors():
    features = EncodedFeatures(0, CutCodec(BUNDLE.manifest).encode(values(), Codec.FP32), GEOMETRY)
    assert features.payload_bytes == 4 * (6 * 5 * 7 + 10 * 3 * 4)


def test_one_tensor_is_written_as_before_there_were_tensors():
    """Field by field, as a peer of an older release writes it."""
    manifest = load_bundle(TOY_BUNDLE).manifest
    tensors = CutCodec(manifest).encode({"features": np.ones((1, 8, 3, 4), np.float32)}, Codec.FP16)
    message = features_to_wire(EncodedFeatures(7, tensors, GEOMETRY))
    payload = np.ones(96, "<f2").tobytes()
    tensor = b"\x0a\x04\x01\x08\x03\x04" + b"\x10\x02" + b"\x1a\xc0\x01" + payload
    geometry = b"\x08\x78\x10\xa0\x01\x18\x50\x20\x70\x28\x50\x30\x70"
    assert message.SerializeToString() == (
        b"\x08\x07" + b"\x12\x0d" + geometry + b"\x1a\xcb\x01" + tensor
    )


def without(message):
    del message.further_tensors[:]


def twice(message):
    message.further_tensors.add().CopyFrom(message.further_tensors[0])


def exchanged(message):
    first = tensor_pb2.Tensor()
    first.CopyFrom(message.tensor)
    message.tensor.CopyFrom(message.further_tensors[0])
    message.further_tensors[0].CopyFrom(first)


def of_another_codec(message):
    message.further_tensors[0].codec = tensor_pb2.CODEC_FP16


def of_no_codec(message):
    message.further_tensors[0].codec = tensor_pb2.CODEC_UNSPECIFIED


def empty(message):
    message.further_tensors[0].Clear()


def too_many(message):
    for _ in range(9):
        twice(message)


def cut_short(message):
    message.further_tensors[0].data = message.further_tensors[0].data[:-1]


def of_another_shape(message):
    message.further_tensors[0].shape[:] = [1, 10, 4, 3]


def enormous(message):
    message.further_tensors[0].shape[:] = [1, 10, 1 << 31, 1 << 31]


def of_a_larger_input(message):
    """Consistent in itself, and never made by this bundle."""
    message.geometry.input_height = message.geometry.valid_height = 160
    message.tensor.shape[:] = [1, 6, 10, 7]
    message.further_tensors[0].shape[:] = [1, 10, 5, 4]


def not_finite(message):
    bad = values()["features_32"]
    bad[0, 9, 2, 3] = np.nan
    message.further_tensors[0].data = bad.tobytes()


def far_too_large(message):
    bad = np.full((1, 10, 3, 4), 2 * MAX_FEATURE, np.float32)
    message.further_tensors[0].data = bad.tobytes()


REFUSED = {
    without: "is 1, and it has to be 2, as cross",
    twice: "is 3, and it has to be 2, as cross",
    exchanged: r"features_16 have shape \(1, 10, 3, 4\), \(1, 6, 5, 7\) is expected",
    of_another_codec: "have to be of one codec",
    of_no_codec: "names no codec",
    empty: "names no codec",
    too_many: "are at most 8 tensors",
    cut_short: "takes 480 bytes, not 479",
    of_another_shape: r"features_32 have shape \(1, 10, 4, 3\), \(1, 10, 3, 4\) is expected",
    enormous: "features_32 have shape",
    of_a_larger_input: r"input policy allows features_16 of \(1, 6, 5, 7\)",
    not_finite: "not a finite number",
    far_too_large: "larger than 65536",
}


@pytest.mark.parametrize("change", REFUSED, ids=lambda change: change.__name__)
def test_what_does_not_fit_the_bundle_is_its_sender_s_fault(stage, change):
    message = wire()
    change(message)
    with pytest.raises(InvalidInputError, match=REFUSED[change]):
        prepared(stage, message)


def test_latents_are_refused_for_want_of_a_bottleneck(stage):
    message = wire()
    without(message)
    message.tensor.codec = tensor_pb2.CODEC_LATENT
    with pytest.raises(PreconditionError, match="which only a plain DETR can have"):
        prepared(stage, message)
    message = wire()
    for tensor in (message.tensor, *message.further_tensors):
        tensor.codec = tensor_pb2.CODEC_LATENT
    with pytest.raises(InvalidInputError, match="latents are one tensor, and this frame has 2"):
        prepared(stage, message)


def test_a_model_of_one_level_takes_one_tensor():
    stage = TransformerStage(load_bundle(TOY_BUNDLE))
    tensors = CutCodec(load_bundle(TOY_BUNDLE).manifest).encode(
        {"features": np.ones((1, 8, 3, 4), np.float32)}, Codec.FP32
    )
    geometry = FrameGeometry(96, 128, 96, 128, 96, 128)
    message = features_to_wire(EncodedFeatures(0, tensors, geometry))
    assert list(prepared(stage, message).tensors) == ["features", "pos", "mask"]
    message.further_tensors.add().CopyFrom(message.tensor)
    with pytest.raises(InvalidInputError, match="is 2, and it has to be 1, as cross"):
        prepared(stage, message)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_arrives_is_read_or_refused(stage, seed):
    """Bytes of an honest message, some of them changed."""
    random = np.random.default_rng(seed)
    honest = wire(Codec.FP16 if seed % 2 else Codec.INT8).SerializeToString()
    for _ in range(50):
        data = bytearray(honest)
        for position in random.integers(0, len(data), random.integers(1, 4)):
            data[position] = random.integers(0, 256)
        try:
            message = stage_pb2.Features.FromString(bytes(data))
        except DecodeError:
            continue
        try:
            tensors = prepared(stage, message).tensors
        except TandemError:
            continue
        assert {name: tensor.shape for name, tensor in tensors.items()} == SIZES
        assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_warming_up_takes_every_tensor(stage):
    (tensors,) = stage.typical_tensors()
    assert {name: tensor.shape for name, tensor in tensors.items()} == SIZES
