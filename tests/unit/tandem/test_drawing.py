import numpy as np
import pytest

from tandem.drawing import category_colour, draw_detections, enlargement
from tests.unit.tandem.factories import detection

SIZES = [(40, 30), (160, 160), (40, 400), (480, 640), (1080, 1920), (3, 2000)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_picture_grows_by_a_whole_factor_and_keeps_its_input(height, width):
    picture = np.full((height, width, 3), 7, np.uint8)
    drawn = draw_detections(picture, [detection(box=(0, 0, width, height))])
    factor = enlargement(height, width)
    assert drawn.shape == (factor * height, factor * width, 3)
    assert (picture == 7).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("shift", [-0.9, -0.3, 0.0, 0.3, 0.9])
def test_whatever_the_box_its_label_is_on_the_picture(height, width, shift):
    box = (shift * width, shift * height, (1 + shift) * width, (1 + shift) * height)
    drawn = draw_detections(np.zeros((height, width, 3), np.uint8), [detection(5, box=box)])
    ground = (drawn == np.array(category_colour(5))).all(axis=-1).sum()
    # A label's ground is far more than what is left of four thin lines.
    assert ground > (100 if min(height, width) >= 30 else 0)


def test_labels_of_neighbours_do_not_cover_each_other():
    picture = np.zeros((480, 640, 3), np.uint8)
    first = detection(1, 0.9, (100, 100, 300, 300), "person")
    second = detection(18, 0.8, (104, 102, 300, 300), "dog")
    both = draw_detections(picture, [first, second])
    alone = draw_detections(picture, [first])
    label = (slice(70, 98), slice(98, 180))
    np.testing.assert_array_equal(both[label], alone[label])
    assert (both == np.array(category_colour(18))).all(axis=-1).sum() > 500


def test_the_highest_score_is_on_top():
    picture = np.zeros((480, 640, 3), np.uint8)
    box = (100, 100, 300, 300)
    drawn = draw_detections(picture, [detection(1, 0.9, box), detection(3, 0.5, box)])
    assert tuple(drawn[200, 100]) == category_colour(1)


def test_nothing_found_leaves_the_picture_as_it_is():
    picture = np.random.default_rng(0).integers(0, 255, (400, 500, 3), np.uint8)
    np.testing.assert_array_equal(draw_detections(picture, []), picture)


def test_colours_are_stable_and_distinct():
    colours = [category_colour(category) for category in range(1, 91)]
    assert colours == [category_colour(category) for category in range(1, 91)]
    assert len(set(colours)) == 90
    distances = [
        sum(abs(a - b) for a, b in zip(one, other, strict=True))
        for one, other in zip(colours, colours[1:], strict=False)
    ]
    assert min(distances) > 100


@pytest.mark.parametrize(
    ("height", "width", "factor"),
    [(320, 320, 1), (160, 160, 2), (48, 64, 7), (40, 400, 3), (1080, 1920, 1), (1, 5000, 1)],
)
def test_enlargement(height, width, factor):
    assert enlargement(height, width) == factor
