import cv2
import numpy as np
import pytest

from common.domain.errors import ConfigurationError
from scenes.backgrounds import draw_textures, load_photographs
from scenes.fetch import photo_file
from scenes.sources import PHOTOS


@pytest.fixture
def cache(tmp_path):
    """All photographs, as plain pictures of the size of thumbnails."""
    for number, photo in enumerate(PHOTOS):
        path = photo_file(tmp_path, photo.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((30, 40, 3), 10 * number, np.uint8))
    return tmp_path


def test_textures_are_always_the_same_and_all_different():
    first, second = draw_textures(), draw_textures()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert len({picture.tobytes() for picture in first}) == len(first)
    for picture in first:
        assert picture.dtype == np.uint8
        assert picture.std() > 10


@pytest.mark.parametrize(("split", "textures"), [("train", len(draw_textures())), ("val", 0)])
def test_only_training_has_textures(cache, split, textures):
    photographs = sum(photo.split == split for photo in PHOTOS)
    assert len(load_photographs(cache, split).pictures) == photographs + textures


def test_unseen_artwork_stands_on_the_photographs_of_val(cache):
    val, unseen = load_photographs(cache, "val"), load_photographs(cache, "unseen")
    for a, b in zip(val.pictures, unseen.pictures, strict=True):
        assert np.array_equal(a[0], b[0])


def test_a_missing_photograph_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="fetch it with"):
        load_photographs(tmp_path, "train")
