import numpy as np
import pytest

from common.domain.errors import ConfigurationError
from scenes.artwork import Artwork, icon_from_rgba, training_sets, unseen_sets
from scenes.backgrounds import draw_background
from scenes.categories import CATEGORIES, category_icons, distractor_icons
from scenes.sources import ARTWORK_SETS, PHOTOS
from tests.unit.scenes.conftest import disc


def test_shrinking_does_not_bleed_invisible_colour():
    rgba = disc((255, 0, 0))
    rgba[rgba[:, :, 3] == 0] = (0, 255, 0, 0)  # green, but invisible
    icon = icon_from_rgba("test", "disc", rgba)
    assert len(icon.mips) > 2
    for mip in icon.mips:
        assert mip[:, :, 1].max() == 0
        assert (mip[:, :, 0] <= mip[:, :, 3]).all()


def test_the_smallest_sufficient_picture_is_used():
    icon = icon_from_rgba("test", "square", np.full((128, 128, 4), 255, np.uint8))
    assert [mip.shape[0] for mip in icon.mips] == [128, 64, 32, 16]
    assert icon.at_least(33).shape[0] == 64
    assert icon.at_least(32).shape[0] == 32
    assert icon.at_least(1000).shape[0] == 128


def test_an_empty_picture_is_refused():
    with pytest.raises(ConfigurationError, match="test/nothing is empty"):
        icon_from_rgba("test", "nothing", np.zeros((8, 8, 4), np.uint8))


def test_artwork_needs_every_category(artwork):
    with pytest.raises(ConfigurationError, match="every one"):
        Artwork(artwork.icons[:-1])


def test_splits_share_neither_artwork_nor_photographs():
    assert not set(training_sets()) & set(unseen_sets())
    assert unseen_sets()
    files = [photo.file for photo in PHOTOS]
    assert len(files) == len(set(files))
    assert {photo.split for photo in PHOTOS} == {"train", "val"}


def test_training_artwork_is_apache_or_mit():
    licenses = {artwork.license for artwork in ARTWORK_SETS if artwork.trained_on}
    assert licenses == {"Apache-2.0", "MIT"}


@pytest.mark.parametrize("artwork_set", [artwork.name for artwork in ARTWORK_SETS])
def test_icon_lists_cover_every_category_and_no_icon_twice(artwork_set):
    lists = category_icons(artwork_set)
    assert list(lists) == [category.name for category in CATEGORIES]
    names = [name for icons in lists.values() for name in icons]
    names += distractor_icons(artwork_set)
    assert len(names) == len(set(names))


def test_backgrounds_have_the_size_asked_for(photographs):
    for seed in range(40):
        background = draw_background(np.random.default_rng(seed), photographs, 48, 64)
        assert background.shape == (48, 64, 3)
        assert background.dtype == np.uint8
