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

# Two channels of 2 x 3 cells; no value is near the border between two levels, and
# the second channel has the smaller mean.
TENSOR = np.array(
    [[[[0.91, 0.52, -0.93], [1.31, -1.7, 1.06]], [[40.3, 36.2, 44.4], [38.1, -90.2, 41.3]]]],
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
        "c3f5683fb81e053f7b146ebf14aea73f9a99d9bf14ae873f33332142cdcc10429a99314266661842"
        "6666b4c233332542"
    ),
    Codec.FP16: "483b293871bb3d3dcdbe3d3c0a5186508d51c350a3d52a51",
}
CONTENT = {
    Codec.INT8: "9a99d9bf6666b4c23c65413cbb20073fa0cdddbc41ff00eaf7effff300f9",
    Codec.Q6: "866a20162b1b00232925162d0e2b",
    Codec.Q5: "8468100a160d001115120a170615",
    Codec.Q4: "8065586b809ab5b2",
    Codec.Q3: "7a60243540456251",
    Codec.Q2: "756076a8cd",
}
# As zstd 1.5.7 made them.
PAYLOADS = {
    Codec.INT8: (
        "28b52ffd241e8000009a99d9bf6666b4c23c65413cbb20073f100000a0cd610000ddbc41ff00eaf7"
        "effff300f92368f77f"
    ),
    Codec.Q6: "28b52ffd240e100000866a61000020162b1b00232925162d0e2b4af231ec",
    Codec.Q5: "28b52ffd240e1000008468610000100a160d001115120a170615c4479a43",
    Codec.Q4: "28b52ffd24081000008065310000586b809ab5b2ecee7fd1",
    Codec.Q3: "28b52ffd24081000007a603100002435404562512064877d",
    Codec.Q2: "28b52ffd2405100000756019000076a8cd23b5ef9f",
}
# One that zstd found worth compressing, of `long_tensor()`.
LONG_Q4 = (
    "28b52ffd64e200100000797855040014073f7c07773c8f88fc0880ad87a78e21198f897470588873968d657f"
    "f756d869378885074798f89112e87a78da0880cf88f8c37770c7f388c88f00d87a78ea1892f1984807878538"
    "67d958f6776f859d768358787084891f2981ae87a78d00f88c882888888222198f897480084798f891220900"
    "014001a0142017d003170327700f6846840c920a6699f1cba7"
)
Q3_VALUES = [
    [
        [[0.8571429, 0.2857144, -0.8571428], [1.4285717, -1.4285715, 0.8571429]],
        [[41.1428566, 36.5714302, 43.4285736], [38.8571434, 32.0, 41.1428566]],
    ]
]


def long_tensor():
    """[1,2,20,24], by integers, so that it is the same everywhere; most values are small."""
    spread = (np.arange(960) ** 2 * 31 % 97 - 48) / 48
    return (spread**3 * 3 * np.repeat([1, 4], 480) + np.repeat([0.01, 40.01], 480)).reshape(
        1, 2, 20, 24
    )


def content(codec):
    return b"".join(CODECS._codecs[codec].parts(TENSOR))


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
    means, levels = stream[: len(ranges)], stream[len(ranges) :]
    a_byte = {8: 1, 6: 1, 5: 1, 4: 2, 3: 2, 2: 4}[bits]
    values = np.zeros((len(ranges), cells))
    index = 0
    for channel in sorted(range(len(ranges)), key=lambda each: means[each]):
        least, step = ranges[channel]
        for cell in range(cells):
            shift = 8 // a_byte * (index % a_byte)
            level = levels[index // a_byte] >> shift & (2**bits - 1)
            values[channel, cell] = least + level * step
            index += 1
    return values.reshape(shape)


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
