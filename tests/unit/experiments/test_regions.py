from pathlib import Path

import numpy as np
import pytest

from common.bundle import load_bundle
from common.domain.errors import ConfigurationError
from experiments.regions.decision import Crop, moved_cells, smallest_crop
from experiments.regions.ways import (
    WHOLE_EVERY,
    CroppedFeatures,
    CroppedFrames,
    EveryNth,
    Model,
    StillSkipped,
)

STRIDE = 16


def cells(*places, rows=9, columns=12):
    moved = np.zeros((rows, columns), bool)
    for place in places:
        moved[place] = True
    return moved


@pytest.mark.parametrize(
    ("moved", "margin", "share", "expected"),
    [
        (cells((4, 5)), 0, 0.7, Crop(4, 5, 5, 6)),
        (cells((4, 5)), 2, 0.7, Crop(2, 7, 3, 8)),
        (cells((2, 3), (5, 7)), 0, 0.7, Crop(2, 6, 3, 8)),
        # A margin ends where the frame does.
        (cells((0, 11)), 2, 0.7, Crop(0, 3, 9, 12)),
        # 54 of 108 cells: half of the frame.
        (cells((0, 0), (8, 5)), 0, 0.5, Crop(0, 9, 0, 6)),
        (cells((0, 0), (8, 5)), 0, 0.49, None),
        (cells((0, 0), (8, 11)), 0, 0.7, None),
    ],
)
def test_the_crop_is_the_smallest_around_what_moved(moved, margin, share, expected):
    assert smallest_crop(moved, margin, share) == expected


def test_there_is_no_crop_around_nothing():
    with pytest.raises(ValueError, match="nothing moved"):
        smallest_crop(cells(), 1, 0.7)


def background():
    ramp = np.linspace(40, 200, 192)[None, :] + np.linspace(-20, 20, 144)[:, None]
    return np.repeat(ramp.astype(np.uint8)[:, :, None], 3, axis=2)


def with_square(left, top):
    picture = background()
    picture[top : top + 12, left : left + 12] = (250, 20, 20)
    return picture


def test_cells_in_which_something_changed_have_moved():
    # Within one cell, and over the border of four.
    moved = moved_cells(with_square(34, 50), background(), STRIDE)
    assert np.argwhere(moved).tolist() == [[3, 2]]
    moved = moved_cells(with_square(90, 58), background(), STRIDE)
    assert np.argwhere(moved).tolist() == [[3, 5], [3, 6], [4, 5], [4, 6]]
    # Where it was has changed as well as where it is.
    moved = moved_cells(with_square(34, 50), with_square(130, 2), STRIDE)
    assert np.argwhere(moved).tolist() == [[0, 8], [3, 2]]


@pytest.mark.parametrize("levels", [0, 2, 6])
def test_noise_is_no_motion(levels):
    rng = np.random.default_rng(3)
    one, other = (
        np.clip(background() + rng.normal(0, levels, (144, 192, 3)), 0, 255).astype(np.uint8)
        for _ in range(2)
    )
    assert not moved_cells(one, other, STRIDE).any()


@pytest.fixture(scope="module")
def model():
    return Model(load_bundle(Path("models/demo-r34")), 144, 192)


def test_frames_that_repeat_are_computed_once_in_so_many(model):
    way = StillSkipped(model)
    answers = [way.answer(with_square(34, 50)) for _ in range(WHOLE_EVERY + 1)]
    assert way.cells == 2 * model.whole.cells
    assert answers == [EveryNth(model, 1).answer(with_square(34, 50))] * len(answers)


@pytest.mark.parametrize("kind", [CroppedFrames, CroppedFeatures])
def test_only_what_moved_is_computed(model, kind):
    way = kind(model)
    way.answer(with_square(34, 50))
    way.answer(with_square(50, 50))
    # Cells 2 and 3 of row 3, with a margin of two on each side.
    assert way.cells == model.whole.cells + 5 * 6


def test_features_of_the_crop_stand_where_the_frame_has_them(model):
    way = CroppedFeatures(model)
    way.answer(with_square(50, 50))
    way.answer(with_square(100, 66))
    before, now = (model.features(with_square(*at)) for at in ((50, 50), (100, 66)))

    def difference(one, other, columns=0):
        """Around the square, and so many columns beside it."""
        return np.abs(one[:, :, 3:6, 5:8] - other[:, :, 3:6, 5 + columns : 8 + columns]).mean()

    kept = way._features
    assert 0 < difference(kept, now) < 0.5 * difference(kept, before)
    assert difference(kept, now) < 0.5 * min(difference(kept, now, side) for side in (-1, 1))
    # Rows 3 and 4, columns 3 to 6, a margin of two, of which the outermost cells are not taken.
    assert np.array_equal(kept[:, :, 7:], before[:, :, 7:])
    assert np.array_equal(kept[..., 9:], before[..., 9:])
    assert not np.array_equal(kept[:, :, 2:6, 2:8], before[:, :, 2:6, 2:8])


def test_frames_that_leave_padding_are_refused():
    with pytest.raises(ConfigurationError, match="do not fill"):
        Model(load_bundle(Path("models/demo-r34")), 100, 192)
