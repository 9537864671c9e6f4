"""The format cannot change silently: stored bytes, and a decoder written from the specification.

A compressor's own bytes may differ from release to release, so what is compared is its input, and
how stored payloads are decoded.
"""

import struct

import numpy as np
import pytest
import zstandard

from common.bundle import Calibration
from common.codec import FeatureCodec
from common.domain.codec import CALIBRATED_BITS, Codec, EncodedTensor
from tests.unit.codec.conftest import calibrated, features

# Two channels of 2 x 3 cells; no value is near the border between two levels.
TENSOR = np.array(
    [[[[0.11, 0.52, -0.93], [1.31, -1.7, 0.04]], [[40.3, 36.2, 44.4], [90.1, -90.2, 41.3]]]],
    np.float32,
)
CALIBRATION = Calibration(
    frames=1,
    mean=(0.0, 40.0),
    std=(1.0, 4.0),
    clip={"q6": 3.0, "q5": 2.8, "q4": 2.5, "q3": 2.0, "q2": 1.5},
)
CODECS = FeatureCodec(CALIBRATION)
FLOATING = {
    Codec.FP32: (
        "ae47e13db81e053f7b146ebf14aea73f9a99d9bf0ad7233d33332142cdcc10429a9931423333b442"
        "6666b4c233332542"
    ),
    Codec.FP16: "0a2f293871bb3d3dcdbe1f290a5186508d51a255a3d52a51",
}
CONTENT = {
    Codec.INT8: "9a99d9bf6666b4c23c65413cce01353f072692b53af8f98c938d98d9da94",
    Codec.Q6: "3f012226172e0f211f152a3e3f22",
    Codec.Q5: "1f0011130b180711100a161f0011",
    Codec.Q4: "0fa9c69358fb80",
    Codec.Q3: "00446241247540",
    Codec.Q2: "00da688f",
}
# As zstd 1.5.7 made them.
PAYLOADS = {
    Codec.INT8: (
        "28b52ffd241ef100009a99d9bf6666b4c23c65413cce01353f072692b53af8f98c938d98d9da941ae457ca"
    ),
    Codec.Q6: "28b52ffd240e7100003f012226172e0f211f152a3e3f22f9dcc6ef",
    Codec.Q5: "28b52ffd240e7100001f0011130b180711100a161f00117b113ffa",
    Codec.Q4: "28b52ffd24073900000fa9c69358fb80b27a64e4",
    Codec.Q3: "28b52ffd240739000000446241247540324802f3",
    Codec.Q2: "28b52ffd240421000000da688f28e9652c",
}
# One that zstd found worth compressing, of `long_tensor()`.
LONG_Q4 = (
    "28b52ffd64e1003d040024070070c7f388c88f00d87a78ea2892f198480788853867d958f6776f859d768358"
    "887084891f2982ae87a78d00f88c883f7c07773c8f88fc0880ad87a78e22198f897480588873968d657ff756"
    "d869378885084798f89122e87a78da0880cf88f8c37721198f897470074798f89112188778810700144002da"
    "03c7c0258052402e514352c10c0c101adc"
)
Q3_VALUES = [
    [
        [[0.2857144, 0.2857144, -0.8571428], [1.4285717, -1.4285715, 0.2857144]],
        [[41.1428566, 36.5714302, 43.4285736], [48.0, 32.0, 41.1428566]],
    ]
]


def long_tensor():
    """[1,2,20,24], by integers, so that it is the same everywhere; most values are small."""
    spread = (np.arange(960) ** 2 * 31 % 97 - 48) / 48
    return (spread**3 * 3 * np.repeat([1, 4], 480) + np.repeat([0.01, 40.01], 480)).reshape(
        1, 2, 20, 24
    )


def content(codec):
    return CODECS._codecs[codec].content(TENSOR)


def decoded_by_the_specification(data, shape, codec, calibration):
    """docs/codecs.md, word by word and value by value."""
    frames, channels, rows, columns = shape
    cells = rows * columns
    stream = zstandard.ZstdDecompressor().decompress(data)
    bits = 8 if codec is Codec.INT8 else CALIBRATED_BITS[codec]
    ranges = []
    if codec is Codec.INT8:
        count = frames * channels
        numbers = struct.unpack_from(f"<{2 * count}f", stream)
        ranges = list(zip(numbers[:count], numbers[count:]))
        stream = stream[8 * count :]
    else:
        for _ in range(frames):
            for mean, std in zip(calibration.mean, calibration.std):
                reach = calibration.clip[codec.value] * std
                ranges.append((mean - reach, 2 * reach / (2**bits - 1)))
    a_byte = {8: 1, 6: 1, 5: 1, 4: 2, 3: 2, 2: 4}[bits]
    spacing = 8 // a_byte

    def symbol(start, index):
        byte = stream[start + index // a_byte]
        return byte >> spacing * (index % a_byte) & (2**bits - 1)

    turned_start = -(-frames * channels // a_byte)
    values = []
    for channel, (least, step) in enumerate(ranges):
        turn = symbol(0, channel)
        for cell in range(cells):
            level = (symbol(turned_start, channel * cells + cell) + turn) % 2**bits
            values.append(least + level * step)
    return np.array(values).reshape(shape)


@pytest.mark.parametrize("codec", FLOATING)
def test_plain_payloads_are_those_of_the_first_release(codec):
    assert CODECS.encode(TENSOR, codec).data.hex() == FLOATING[codec]


@pytest.mark.parametrize("codec", CONTENT)
def test_what_is_compressed_is_that_of_the_first_release(codec):
    assert content(codec).hex() == CONTENT[codec]


@pytest.mark.parametrize("codec", PAYLOADS)
def test_a_payload_of_the_first_release_is_decoded(codec):
    encoded = EncodedTensor(TENSOR.shape, codec, bytes.fromhex(PAYLOADS[codec]))
    np.testing.assert_array_equal(
        CODECS.decode(encoded), CODECS.decode(CODECS.encode(TENSOR, codec))
    )


def test_a_payload_that_was_worth_compressing_is_decoded():
    encoded = EncodedTensor((1, 2, 20, 24), Codec.Q4, bytes.fromhex(LONG_Q4))
    expected = CODECS.decode(CODECS.encode(long_tensor(), Codec.Q4))
    np.testing.assert_array_equal(CODECS.decode(encoded), expected)
    assert len(encoded.data) < 400


def test_the_decoded_values_are_those_of_the_first_release():
    encoded = EncodedTensor(TENSOR.shape, Codec.Q3, bytes.fromhex(PAYLOADS[Codec.Q3]))
    np.testing.assert_allclose(CODECS.decode(encoded), Q3_VALUES, rtol=1e-6)


@pytest.mark.parametrize("codec", [Codec.INT8, *CALIBRATED_BITS])
@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 3, 25, 34)], ids=str)
def test_the_specification_is_enough_to_decode(codec, shape):
    frames, channels, rows, columns = shape
    tensor = features(frames, channels, rows, columns)
    calibration = calibrated(features(20, channels, seed=1))
    encoded = FeatureCodec(calibration).encode(tensor, codec)
    np.testing.assert_allclose(
        FeatureCodec(calibration).decode(encoded),
        decoded_by_the_specification(encoded.data, shape, codec, calibration),
        rtol=1e-5,
        atol=1e-3,
    )
