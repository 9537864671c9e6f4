"""Calibration measures what it says, in a manifest that refuses what does not fit."""

import numpy as np
import pytest
from pydantic import ValidationError

from common.bundle import Calibration, CodecDefaults
from common.codec.feature_statistics import FeatureStatistics, best_clip
from common.domain.codec import CALIBRATED_BITS
from common.domain.errors import InvalidInputError
from tests.unit.codec.conftest import calibrated, features

# Half the range of the best uniform quantiser of a Gaussian with 2^bits levels, (2^bits - 1) / 2
# times the step of J. Max, Quantizing for Minimum Distortion (1960), table II.
GAUSSIAN_CLIP = {2: 1.494, 3: 2.051, 4: 2.514, 5: 2.916}
CLIP = {codec.value: 2.0 for codec in CALIBRATED_BITS}


def test_mean_and_deviation_are_those_of_all_frames_together():
    tensor = features(frames=30, seed=5)
    calibration = calibrated(tensor)
    assert calibration.frames == 30
    exact = tensor.astype(np.float64)
    np.testing.assert_allclose(calibration.mean, exact.mean(axis=(0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(calibration.std, exact.std(axis=(0, 2, 3)), rtol=1e-5)


def test_frames_of_different_sizes_count_by_their_cells():
    small, large = features(rows=2, columns=3)[0], features(rows=20, columns=30, seed=1)[0]
    statistics = FeatureStatistics()
    statistics.add(small)
    statistics.add(large)
    both = np.concatenate([each.reshape(len(each), -1) for each in (small, large)], axis=1)
    np.testing.assert_allclose(statistics.calibration().mean, both.mean(axis=1), rtol=1e-4)


@pytest.mark.parametrize("bits", GAUSSIAN_CLIP)
def test_the_best_range_of_a_gaussian_is_that_of_the_literature(bits):
    centres = np.linspace(-8, 8, 4001)
    weights = np.exp(-np.square(centres) / 2)
    assert best_clip(centres, weights, bits, 2) == pytest.approx(GAUSSIAN_CLIP[bits], abs=0.04)


@pytest.mark.parametrize("bits", GAUSSIAN_CLIP)
def test_a_higher_power_of_the_error_clips_less(bits):
    centres = np.linspace(-8, 8, 401)
    weights = np.exp(-np.square(centres) / 2)
    clips = [best_clip(centres, weights, bits, power) for power in (2, 4, 6)]
    assert clips == sorted(set(clips))


def test_heavy_tails_get_a_wider_range():
    random = np.random.default_rng(0)
    shape = (20, 2, 16, 16)
    gaussian = calibrated(random.normal(0, 1, shape).astype(np.float32))
    laplacian = calibrated(random.laplace(0, 1, shape).astype(np.float32))
    for codec in CLIP:
        assert laplacian.clip[codec] > gaussian.clip[codec] * 1.05
    clips = [gaussian.clip[codec] for codec in CLIP]
    assert clips == sorted(clips, reverse=True)


def test_the_range_is_that_of_the_channels_with_the_largest_values():
    random = np.random.default_rng(0)
    tensor = random.normal(0, 1, (20, 2, 16, 16)).astype(np.float32)
    tensor[:, 1] = random.laplace(0, 1e-3, (20, 16, 16))
    clip = calibrated(tensor).clip["q4"]
    assert clip == pytest.approx(calibrated(tensor[:, :1]).clip["q4"], abs=0.1)


def test_the_same_frames_give_the_same_calibration():
    assert calibrated(features(frames=5)) == calibrated(features(frames=5))


def test_constant_channels_are_calibrated_too():
    calibration = calibrated(np.full((3, 2, 4, 4), 2.5, np.float32))
    assert (calibration.mean, calibration.std) == ((2.5, 2.5), (0.0, 0.0))


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InvalidInputError, match="no frames"):
        FeatureStatistics().calibration()
    with pytest.raises(InvalidInputError, match="not finite"):
        FeatureStatistics().add(np.full((2, 3, 3), np.nan, np.float32))
    statistics = FeatureStatistics()
    statistics.add(np.zeros((2, 3, 3), np.float32))
    with pytest.raises(InvalidInputError, match="3 channels, the ones before had 2"):
        statistics.add(np.zeros((3, 3, 3), np.float32))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"std": (1.0,)}, "2 means, but 1 stds"),
        ({"std": (1.0, -1.0)}, "greater than or equal to 0"),
        ({"mean": (1.0, float("nan"))}, "mean"),
        ({"clip": {**CLIP, "q4": 0.0}}, "greater than 0"),
        ({"clip": {"q4": 2.0}}, "clip has to have the keys q2, q3, q4, q5, q6"),
        ({"frames": 0}, "frames"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_calibration_that_does_not_hold_together_is_refused(change, match):
    content = {"frames": 1, "mean": (0.0, 1.0), "std": (1.0, 1.0), "clip": CLIP}
    assert Calibration(**content).clip == CLIP
    with pytest.raises(ValidationError, match=match):
        Calibration(**{**content, **change})


@pytest.mark.parametrize(
    ("default", "match"), [("zip", "unknown codec 'zip'.*q2"), ("q4", "q4 needs a calibration")]
)
def test_a_bundle_cannot_default_to_what_it_cannot_serve(default, match):
    with pytest.raises(ValidationError, match=match):
        CodecDefaults(default=default)
    calibration = Calibration(frames=1, mean=(0.0,), std=(1.0,), clip=CLIP)
    assert CodecDefaults(default="q4", calibration=calibration).default == "q4"
