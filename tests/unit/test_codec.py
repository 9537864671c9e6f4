"""Codecs keep shapes and values within their error budgets."""

import numpy as np
import pytest

from common.codec import codec_named, decode, encode
from common.codec.registry import _CODECS
from common.domain.codec import Codec, EncodedTensor
from common.domain.errors import ConfigurationError, InvalidInputError
from common.wire.tensors import codec_from_wire, codec_to_wire, tensor_from_wire, tensor_to_wire

SHAPES = [(1, 256, 10, 12), (2, 3, 1, 1), (0, 3, 4, 4), (5,), (1, 0, 7, 7)]
RELATIVE_ERROR = {Codec.FP32: 0.0, Codec.FP16: 2.0**-11}


def features(shape):
    return np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)


def test_every_codec_has_an_implementation_a_budget_and_a_number_on_the_wire():
    assert set(_CODECS) == set(Codec) == set(RELATIVE_ERROR)
    assert [codec_from_wire(codec_to_wire(codec)) for codec in Codec] == list(Codec)


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_tensor_survives_the_way(codec, shape):
    tensor = features(shape)
    arrived = decode(tensor_from_wire(tensor_to_wire(encode(tensor, codec))))
    assert (arrived.shape, arrived.dtype) == (shape, np.float32)
    assert arrived.flags.c_contiguous
    np.testing.assert_allclose(arrived, tensor, rtol=RELATIVE_ERROR[codec], atol=0)


@pytest.mark.parametrize("codec", Codec)
def test_a_strided_tensor_is_sent_row_major(codec):
    tensor = features((1, 4, 6, 8)).transpose(0, 1, 3, 2)[:, ::2]
    arrived = decode(encode(tensor, codec))
    np.testing.assert_allclose(arrived, tensor, rtol=RELATIVE_ERROR[codec])


def test_fp32_is_exact_for_every_kind_of_value():
    tensor = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3.4e38], np.float32)
    assert decode(encode(tensor, Codec.FP32)).tobytes() == tensor.tobytes()


def test_fp16_saturates_and_keeps_what_is_no_number():
    tensor = np.array([1e6, -1e6, np.inf, -np.inf, np.nan], np.float32)
    arrived = decode(encode(tensor, Codec.FP16))
    np.testing.assert_array_equal(arrived, [65504, -65504, np.inf, -np.inf, np.nan])


def test_the_bytes_are_those_of_the_first_release():
    tensor = np.array([[1.0, -2.5], [65504.0, 0.1]], np.float32)
    assert encode(tensor, Codec.FP32).data.hex() == "0000803f000020c000e07f47cdcccc3d"
    assert encode(tensor, Codec.FP16).data.hex() == "003c00c1ff7b662e"


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("change", [b"\0", b"\0" * 64])
def test_a_payload_that_does_not_fit_its_shape_is_refused(codec, change):
    encoded = encode(features((1, 2, 3, 4)), codec)
    for data in (encoded.data + change, encoded.data[: -len(change)], b""):
        with pytest.raises(InvalidInputError, match="bytes"):
            decode(EncodedTensor(encoded.shape, codec, data))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="'zip'.*fp32, fp16"):
        codec_named("zip")
