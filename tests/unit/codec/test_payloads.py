"""What arrives is checked: a payload holds a tensor of its shape, or is refused with a reason."""

import struct

import numpy as np
import pytest
import zstandard

from common.codec.base import MAX_VALUES
from common.domain.codec import CALIBRATED_BITS, FEATURE_CODECS, Codec, EncodedTensor
from common.domain.errors import InvalidInputError
from tests.unit.codec.conftest import CHANNELS, features

COMPRESSED = [Codec.INT8, *CALIBRATED_BITS]


def refused(codecs, shape, codec, data, match):
    with pytest.raises(InvalidInputError, match=match):
        codecs.decode(EncodedTensor(shape, codec, data))


@pytest.mark.parametrize("codec", FEATURE_CODECS)
def test_too_short_and_too_long_payloads_are_refused(codecs, codec):
    encoded = codecs.encode(features(), codec)
    for data in (
        encoded.data[:-1],
        encoded.data[: len(encoded.data) // 2],
        encoded.data[:3],
        b"",
        encoded.data + b"\0",
        encoded.data + encoded.data,
    ):
        refused(codecs, encoded.shape, codec, data, "bytes")


@pytest.mark.parametrize("codec", FEATURE_CODECS)
@pytest.mark.parametrize("shape", [(1, CHANNELS, 12, 15), (2, CHANNELS, 12, 16), (0, CHANNELS, 1)])
def test_a_payload_of_another_shape_is_refused(codecs, codec, shape):
    refused(codecs, shape, codec, codecs.encode(features(), codec).data, "bytes")


@pytest.mark.parametrize("codec", COMPRESSED)
def test_every_flipped_bit_is_noticed(codecs, codec):
    encoded = codecs.encode(features(rows=5, columns=4), codec)
    for position in range(len(encoded.data)):
        damaged = bytearray(encoded.data)
        damaged[position] ^= 1 << position % 8
        try:
            arrived = codecs.decode(EncodedTensor(encoded.shape, codec, bytes(damaged)))
        except InvalidInputError:
            continue
        # A bit of the frame that means nothing, such as a reserved one.
        np.testing.assert_array_equal(arrived, codecs.decode(encoded))


@pytest.mark.parametrize("codec", COMPRESSED)
def test_noise_is_refused(codecs, codec):
    random = np.random.default_rng(0)
    for size in (1, 4, 100, 1000):
        refused(codecs, (1, CHANNELS, 8, 8), codec, random.bytes(size), "bytes are corrupt")


@pytest.mark.parametrize("codec", COMPRESSED)
def test_a_frame_that_declares_another_size_is_refused_before_it_is_unpacked(codecs, codec):
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    refused(codecs, (1, CHANNELS, 4, 4), codec, bomb, "should hold .* but it has 268435456")
    silent = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    refused(codecs, (1, CHANNELS, 4, 4), codec, silent, "does not say its size")


@pytest.mark.parametrize("codec", FEATURE_CODECS)
@pytest.mark.parametrize("cells", [MAX_VALUES // CHANNELS + 1, 2**32 - 1])
def test_a_shape_beyond_the_limit_is_refused_at_once(codecs, codec, cells):
    refused(codecs, (1, CHANNELS, cells, 2**32 - 1), codec, b"", "at most 33554432")


@pytest.mark.parametrize("least, step", [(np.nan, 1), (0, np.inf), (0, -1), (3e38, 1), (0, 3e38)])
def test_an_impossible_range_is_refused(codecs, least, step):
    content = struct.pack("<ff", least, step) + bytes(1 + 4)
    data = zstandard.ZstdCompressor().compress(content)
    refused(codecs, (1, 1, 4), Codec.INT8, data, "range of a channel")


@pytest.mark.parametrize("codec", CALIBRATED_BITS)
def test_a_calibrated_codec_refuses_other_channels(codecs, codec):
    data = codecs.encode(features(), codec).data
    refused(codecs, (1, CHANNELS + 1, 12, 16), codec, data, "calibrated for tensors of shape")
