"""All tensors of a cut through the codecs, and their common calibration."""

import numpy as np
import pytest

from common.bundle import load_bundle
from common.codec import CutCodec, FeatureCodec
from common.codec.base import MAX_VALUES
from common.codec.cut_statistics import CutStatistics, without_padding
from common.codec.feature_statistics import FeatureStatistics, joint_calibration
from common.domain.codec import FEATURE_CODECS, Codec, EncodedTensor
from common.domain.errors import InvalidInputError, PreconditionError
from common.domain.frames import FrameGeometry
from tests.harness import TOY_BUNDLE, TOY_TENSORS
from tests.unit.codec.conftest import calibrated, features

TOY = load_bundle(TOY_TENSORS).manifest
FINE, COARSE = (tensor.name for tensor in TOY.cut)


def frame_of(seed):
    """One frame's features of both tensors."""
    return {
        FINE: features(channels=6, rows=5, columns=7, seed=seed) / 50,
        COARSE: features(channels=10, rows=3, columns=4, seed=seed + 1) / 50,
    }


def recalibrated(frames):
    statistics = CutStatistics(TOY)
    for values in frames:
        statistics.add(values)
    codec = TOY.codec.model_copy(update={"calibration": statistics.calibration()})
    return TOY.model_copy(update={"codec": codec})


@pytest.mark.parametrize("codec", FEATURE_CODECS)
def test_each_level_is_coded_by_its_own_part_of_the_calibration(codec):
    frames = [frame_of(seed) for seed in range(0, 40, 2)]
    manifest = recalibrated(frames)
    codecs = CutCodec(manifest)
    encoded = codecs.encode(frames[0], codec)
    assert [each.shape for each in encoded] == [(1, 6, 5, 7), (1, 10, 3, 4)]
    decoded = codecs.decode(encoded)
    assert list(decoded) == [FINE, COARSE]
    parts = manifest.codec.calibration.of_tensors([6, 10])
    for (name, values), part, payload in zip(frames[0].items(), parts, encoded):
        alone = FeatureCodec(part)
        assert alone.encode(values, codec) == payload
        np.testing.assert_array_equal(alone.decode(payload), decoded[name])
        error = np.square(decoded[name] - values).mean() ** 0.5 / values.std()
        assert error < {Codec.Q2: 0.5, Codec.Q3: 0.25}.get(codec, 0.13)


def test_one_level_is_coded_as_ever():
    manifest = load_bundle(TOY_BUNDLE).manifest
    values = features(channels=8, rows=3, columns=4) / 50
    for codec in FEATURE_CODECS:
        (payload,) = CutCodec(manifest).encode({"features": values}, codec)
        assert payload == FeatureCodec(manifest.codec.calibration).encode(values, codec)


def test_without_a_calibration_its_codecs_are_refused():
    plain = TOY.codec.model_copy(update={"calibration": None})
    codecs = CutCodec(TOY.model_copy(update={"codec": plain}))
    codecs.require(Codec.INT8)
    with pytest.raises(PreconditionError, match="q4 needs a calibrated bundle"):
        codecs.require(Codec.Q4)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_another_number_of_tensors_is_refused(count):
    codecs = CutCodec(TOY)
    (tensor, *_) = codecs.encode(frame_of(0), Codec.FP32)
    with pytest.raises(InvalidInputError, match=f"is {count}, and it has to be 2"):
        codecs.decode((tensor,) * count)


def test_levels_have_only_so_many_values_together():
    """Each is allowed alone."""
    side = int((MAX_VALUES // 16) ** 0.5)
    shapes = [(1, 6, side, side), (1, 10, side + 1, side + 1)]
    tensors = [EncodedTensor(shape, Codec.INT8, b"few") for shape in shapes]
    with pytest.raises(InvalidInputError, match=f"at most {MAX_VALUES} are decoded"):
        CutCodec(TOY).decode(tensors)


def test_levels_are_calibrated_one_after_another():
    frames = [frame_of(seed) for seed in range(0, 20, 2)]
    calibration = recalibrated(frames).codec.calibration
    assert calibration.frames == 10
    for start, name in ((0, FINE), (6, COARSE)):
        together = np.concatenate([values[name] for values in frames])
        alone = calibrated(together)
        end = start + len(alone.mean)
        assert calibration.mean[start:end] == alone.mean
        assert calibration.std[start:end] == alone.std


def test_one_level_alone_is_calibrated_as_ever():
    tensor = features(frames=20)
    statistics = FeatureStatistics()
    for values in tensor:
        statistics.add(values)
    assert joint_calibration([statistics]) == statistics.calibration() == calibrated(tensor)


def test_the_range_of_all_levels_is_that_of_the_largest_values():
    random = np.random.default_rng(0)
    gaussian, laplacian = FeatureStatistics(), FeatureStatistics()
    for _ in range(20):
        gaussian.add(random.normal(0, 1, (2, 16, 16)).astype(np.float32))
        laplacian.add(random.laplace(0, 1e-3, (2, 8, 8)).astype(np.float32))
    both = joint_calibration([gaussian, laplacian]).clip
    assert both == joint_calibration([gaussian]).clip
    assert both["q4"] < joint_calibration([laplacian]).clip["q4"]


def test_a_level_of_more_cells_counts_for_more():
    """Two tensors of equal spread: the one with most of the values decides."""
    random = np.random.default_rng(0)
    many, few = FeatureStatistics(), FeatureStatistics()
    for _ in range(20):
        many.add(random.uniform(-1, 1, (2, 64, 64)).astype(np.float32))
        few.add(random.normal(0, 3**-0.5, (2, 8, 8)).astype(np.float32))
    alone = [joint_calibration([each]).clip["q2"] for each in (many, few)]
    both = joint_calibration([many, few]).clip["q2"]
    assert alone[0] < alone[1]
    assert abs(both - alone[0]) < abs(both - alone[1])


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(InvalidInputError, match="no frames"):
        CutStatistics(TOY).calibration()
    with pytest.raises(InvalidInputError, match="not finite"):
        CutStatistics(TOY).add({**frame_of(0), COARSE: np.full((1, 10, 3, 4), np.inf)})


def test_padding_is_left_out_of_each_level_by_its_own_cells():
    geometry = FrameGeometry(33, 60, 80, 112, 33, 60)
    seen = without_padding(TOY, frame_of(0), geometry)
    assert {name: values.shape for name, values in seen.items()} == {
        FINE: (1, 6, 3, 4),
        COARSE: (1, 10, 2, 2),
    }
