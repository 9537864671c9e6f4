"""Codecs keep shapes, and values within their error budgets."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from common.bundle import Calibration
from common.codec import FeatureCodec, codec_named
from common.domain.codec import CALIBRATED_BITS, FEATURE_CODECS, Codec
from common.domain.errors import ConfigurationError, InvalidInputError, PreconditionError
from common.wire.frames import codec_from_wire, codec_to_wire, tensor_from_wire, tensor_to_wire
from tests.unit.codec.conftest import CHANNELS, features

SHAPES = [
    (1, CHANNELS, 25, 34),
    (1, CHANNELS, 5, 7),
    (1, CHANNELS, 1, 1),
    (3, CHANNELS, 4, 3),
    (2, CHANNELS, 9),
    (2, CHANNELS),
    (0, CHANNELS, 4, 4),
    (1, CHANNELS, 0, 7),
]
UNCALIBRATED = [Codec.FP32, Codec.FP16, Codec.INT8]
# Root mean square error over the standard deviation of the values of each channel. What is
# clipped costs most, so a calibrated codec has no bound for a single value.
RELATIVE_ERROR = {
    Codec.FP32: 0.0,
    Codec.FP16: 0.001,
    Codec.INT8: 0.01,
    Codec.Q6: 0.05,
    Codec.Q5: 0.08,
    Codec.Q4: 0.14,
    Codec.Q3: 0.28,
    Codec.Q2: 0.5,
}


def there_and_back(codecs, tensor, codec):
    return codecs.decode(tensor_from_wire(tensor_to_wire(codecs.encode(tensor, codec))))


def shaped(shape):
    count = int(np.prod(shape))
    return np.resize(features(), count).reshape(shape).astype(np.float32)


def test_every_codec_has_an_implementation_a_budget_and_a_number_on_the_wire(codecs):
    assert set(codecs._codecs) == set(FEATURE_CODECS) == set(RELATIVE_ERROR)
    assert [codec_from_wire(codec_to_wire(codec)) for codec in Codec] == list(Codec)


@pytest.mark.parametrize("codec", FEATURE_CODECS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_shape_survives(codecs, codec, shape):
    arrived = there_and_back(codecs, shaped(shape), codec)
    assert (arrived.shape, arrived.dtype) == (shape, np.float32)
    assert arrived.flags.c_contiguous
    assert np.isfinite(arrived).all()


@pytest.mark.parametrize("codec", UNCALIBRATED)
@pytest.mark.parametrize("shape", [(), (5,), (0,), (1, 0, 7, 7), (4, 300, 2, 2)], ids=str)
def test_a_codec_that_is_not_calibrated_takes_any_shape(codecs, codec, shape):
    tensor = shaped(shape)
    arrived = there_and_back(codecs, tensor, codec)
    assert arrived.shape == shape
    np.testing.assert_allclose(arrived, tensor, atol=2.0)


@pytest.mark.parametrize("codec", FEATURE_CODECS)
def test_the_error_is_within_the_budget(codecs, codec):
    tensor = features(frames=2, rows=25, columns=34, seed=7)
    error = there_and_back(codecs, tensor, codec) - tensor
    spread = features(frames=40, seed=1).std(axis=(0, 2, 3))
    relative = np.sqrt(np.square(error).mean(axis=(0, 2, 3))) / spread
    assert relative.max() <= RELATIVE_ERROR[codec]
    # A budget that is far too large would not notice a fault.
    assert relative.max() >= RELATIVE_ERROR[codec] / 4


def test_int8_errs_by_half_a_step_at_most(codecs):
    for seed in range(20):
        tensor = features(frames=2, rows=5, columns=6, seed=seed) * np.float32(10.0 ** (seed - 10))
        extent = np.ptp(tensor, axis=(2, 3), keepdims=True)
        error = np.abs(there_and_back(codecs, tensor, Codec.INT8) - tensor)
        assert (error <= extent / 510 * 1.0001 + np.abs(tensor) * 2.0**-22).all()


@pytest.mark.parametrize("codec", CALIBRATED_BITS)
def test_a_calibrated_codec_errs_by_half_a_step_within_its_range(codecs, calibration, codec):
    mean, std = (np.array(each)[:, None, None] for each in (calibration.mean, calibration.std))
    clip, levels = calibration.clip[codec.value], 1 << CALIBRATED_BITS[codec]
    step = 2 * clip * std / (levels - 1)
    tensor = features(frames=4, seed=3)
    inside = np.clip(tensor, mean - clip * std, mean + clip * std)
    error = np.abs(there_and_back(codecs, tensor, codec) - inside)
    assert (error <= step * 0.5001).all()


def test_fewer_bits_take_fewer_bytes(codecs):
    tensor = features(rows=25, columns=34)
    sizes = [len(codecs.encode(tensor, codec).data) for codec in FEATURE_CODECS]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


@pytest.mark.parametrize("codec", FEATURE_CODECS)
def test_a_strided_tensor_is_sent_row_major(codecs, codec):
    whole = features(frames=2, rows=8, columns=10)
    strided = whole.transpose(0, 1, 3, 2)[:, :, ::2, ::-1]
    expected = codecs.encode(np.ascontiguousarray(strided), codec)
    assert codecs.encode(strided, codec) == expected


@pytest.mark.parametrize("codec", FEATURE_CODECS)
def test_frames_of_a_batch_do_not_touch_each_other(codecs, codec):
    tensor = features(frames=3)
    together = there_and_back(codecs, tensor, codec)
    apart = [there_and_back(codecs, tensor[index : index + 1], codec) for index in range(3)]
    np.testing.assert_array_equal(together, np.concatenate(apart))


def test_fp32_is_exact_for_every_kind_of_value(codecs):
    tensor = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3.4e38], np.float32)
    assert there_and_back(codecs, tensor, Codec.FP32).tobytes() == tensor.tobytes()


def test_fp16_saturates_and_keeps_what_is_no_number(codecs):
    tensor = np.array([1e6, -1e6, 65519, 65520, np.inf, -np.inf, np.nan, 1.0], np.float32)
    arrived = there_and_back(codecs, tensor, Codec.FP16)
    expected = [65504, -65504, 65504, 65504, np.inf, -np.inf, np.nan, 1.0]
    np.testing.assert_array_equal(arrived, expected)


def test_int8_clips_infinities_and_puts_nan_in_the_middle(codecs):
    tensor = np.array([[[0, 255, np.inf, -np.inf, np.nan, 3e38, -3e38]]], np.float32)
    arrived = there_and_back(codecs, tensor, Codec.INT8)
    np.testing.assert_array_equal(arrived[0, 0], [0, 255, 255, 0, 128, 255, 0])


def test_int8_turns_a_channel_without_a_number_into_zeros(codecs):
    tensor = features(channels=3)
    tensor[0, 0], tensor[0, 1], tensor[0, 1, 0] = np.nan, np.inf, -np.inf
    arrived = there_and_back(codecs, tensor, Codec.INT8)
    assert not arrived[0, :2].any()
    healthy = there_and_back(codecs, tensor[:, 2:], Codec.INT8)
    np.testing.assert_array_equal(arrived[:, 2:], healthy)


@pytest.mark.parametrize("value", [0.0, -7.25, 1e-45, 1e30])
def test_int8_keeps_a_constant_channel_exactly(codecs, value):
    tensor = np.full((1, 2, 3, 3), value, np.float32)
    np.testing.assert_array_equal(there_and_back(codecs, tensor, Codec.INT8), tensor)


def test_int8_spans_the_widest_range_without_overflow(codecs):
    tensor = np.array([[[-(2.0**126), 0, 2.0**126]]], np.float32)
    arrived = there_and_back(codecs, tensor, Codec.INT8)
    np.testing.assert_allclose(arrived, tensor, atol=2.0**126 / 254)


@pytest.mark.parametrize("codec", CALIBRATED_BITS)
def test_a_calibrated_codec_clips_infinities_and_puts_nan_by_the_middle(codec):
    clip = dict.fromkeys((each.value for each in CALIBRATED_BITS), 1.0)
    codecs = FeatureCodec(Calibration(frames=1, mean=(10.0, -5.0), std=(2.0, 0.0), clip=clip))
    special = np.array([np.inf, -np.inf, 3e38, -3e38, np.nan], np.float32)
    arrived = there_and_back(codecs, np.tile(special, (1, 2, 1)), codec)
    levels = 1 << CALIBRATED_BITS[codec]
    by_the_middle = 8 + 4 * (levels // 2) / (levels - 1)
    np.testing.assert_allclose(arrived[0, 0], [12, 8, 12, 8, by_the_middle], rtol=1e-6)
    # A channel that was constant has nothing but its mean.
    np.testing.assert_array_equal(arrived[0, 1], np.full(5, -5.0))


@pytest.mark.parametrize("codec", [Codec.INT8, *CALIBRATED_BITS])
def test_one_bad_value_harms_no_other(codecs, codec):
    tensor = features(rows=5, columns=5)
    expected = there_and_back(codecs, tensor, codec)
    # Neither end of its channel's range, which would move int8's levels.
    place = np.unravel_index(np.argsort(tensor, axis=None)[tensor.size // 2], tensor.shape)
    for value in (np.nan, np.inf, -np.inf):
        broken = tensor.copy()
        broken[place] = value
        arrived = there_and_back(codecs, broken, codec)
        assert np.isfinite(arrived).all()
        others = np.arange(tensor.size) != np.ravel_multi_index(place, tensor.shape)
        np.testing.assert_allclose(arrived.ravel()[others], expected.ravel()[others], rtol=1e-6)


@pytest.mark.parametrize("codec", CALIBRATED_BITS)
def test_without_a_calibration_a_calibrated_codec_says_what_to_do(codec):
    codecs = FeatureCodec()
    with pytest.raises(PreconditionError, match=f"{codec.value} .*tandem model calibrate"):
        codecs.require(codec)
    with pytest.raises(PreconditionError):
        codecs.encode(features(), codec)


@pytest.mark.parametrize("shape", [(1, CHANNELS + 1, 3, 3), (CHANNELS,), ()])
def test_a_calibrated_codec_refuses_other_channels(codecs, shape):
    with pytest.raises(InvalidInputError, match="calibrated for tensors of shape"):
        codecs.encode(np.zeros(shape, np.float32), Codec.Q4)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="'zip'.*fp32, fp16, int8, q6, q5, q4, q3, q2"):
        codec_named("zip")


@pytest.mark.parametrize("seed", range(40))
def test_any_tensor_comes_back_finite_and_within_its_channel(codecs, seed):
    random = np.random.default_rng(seed)
    frames, rows, columns = random.integers(1, 9, 3)
    scale = np.float32(10.0 ** random.uniform(-30, 30))
    tensor = features(frames, CHANNELS, rows, columns, seed) * scale
    special = random.random(tensor.shape) < random.choice([0, 0.05, 0.5])
    tensor[special] = random.choice([np.nan, np.inf, -np.inf, 3e38], special.sum())
    proper = np.where(np.abs(tensor) <= 2.0**126, tensor, np.nan)
    for codec in (Codec.INT8, *CALIBRATED_BITS):
        arrived = there_and_back(codecs, tensor, codec)
        assert arrived.shape == tensor.shape
        assert np.isfinite(arrived).all()
        # To send what arrived changes nothing more than a rounding error.
        again = there_and_back(codecs, arrived, codec)
        np.testing.assert_allclose(again, arrived, rtol=1e-4, atol=np.abs(arrived).max() * 1e-5)
    inside = there_and_back(codecs, tensor, Codec.INT8)
    for frame, channel in np.ndindex(frames, CHANNELS):
        row = proper[frame, channel][~np.isnan(proper[frame, channel])]
        least, most = (row.min(), row.max()) if row.size else (0, 0)
        slack = (abs(least) + abs(most)) * 1e-6
        assert inside[frame, channel].min() >= least - slack
        assert inside[frame, channel].max() <= most + slack


def test_threads_share_a_codec(codecs):
    tensors = [features(rows=25, columns=34, seed=seed) for seed in range(8)]
    alone = [codecs.encode(tensor, Codec.Q4) for tensor in tensors]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda one: codecs.encode(one, Codec.Q4), tensors * 20))
        decoded = list(threads.map(codecs.decode, together))
    assert together == alone * 20
    for index, arrived in enumerate(decoded):
        np.testing.assert_array_equal(arrived, codecs.decode(alone[index % 8]))
