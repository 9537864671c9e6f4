import numpy as np
import pytest

from scenes.artwork import ALPHA_THRESHOLD, icon_from_rgba
from scenes.compositor import Pose, SceneSettings, draw_scene, overlap, paste, turned_patch
from scenes.splits import SceneSource


def test_a_scene_depends_on_seed_split_and_index_alone(source, artwork, photographs):
    first, again = source.scene(3, 96, 128), source.scene(3, 96, 128)
    assert np.array_equal(first.pixels, again.pixels)
    assert first.objects == again.objects
    others = [
        source.scene(4, 96, 128),
        SceneSource("val", 7, artwork, photographs).scene(3, 96, 128),
        SceneSource("train", 8, artwork, photographs).scene(3, 96, 128),
    ]
    assert all(not np.array_equal(first.pixels, other.pixels) for other in others)


def test_objects_keep_the_settings(source):
    settings = source.settings
    for index in range(60):
        scene = source.scene(index, 96, 128)
        assert 0 <= len(scene.objects) <= settings.max_objects
        for number, target in enumerate(scene.objects):
            x_min, y_min, x_max, y_max = target.box
            assert 0 <= x_min < x_max <= 128
            assert 0 <= y_min < y_max <= 96
            # Boxes of truncated objects shrink after the overlap was judged.
            for other in scene.objects[:number]:
                assert overlap(target.box, other.box) <= settings.max_overlap + 0.25


def test_scenes_are_not_empty(source):
    counts = [len(source.scene(index, 96, 128).objects) for index in range(60)]
    assert np.mean(counts) > 2


@pytest.mark.parametrize("angle", [0.0, 15.0, -33.0])
@pytest.mark.parametrize("long_side", [9.0, 40.0, 120.0])
def test_a_patch_is_cropped_to_its_alpha(angle, long_side):
    rgba = np.zeros((128, 128, 4), np.uint8)
    rgba[30:90, 20:110] = (200, 10, 10, 255)
    icon = icon_from_rgba("test", "slab", rgba)
    patch = turned_patch(icon, Pose(long_side, angle))
    opaque = patch[:, :, 3] > ALPHA_THRESHOLD
    assert opaque[0].any()
    assert opaque[-1].any()
    assert opaque[:, 0].any()
    assert opaque[:, -1].any()
    turn = np.radians(abs(angle))
    wide = long_side * np.cos(turn) + long_side * 60 / 90 * np.sin(turn)
    assert patch.shape[1] == pytest.approx(wide, abs=2)


def test_mirroring_exchanges_left_and_right():
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[:, :32] = (255, 0, 0, 255)
    rgba[:, 32:] = (0, 0, 255, 255)
    icon = icon_from_rgba("test", "flag", rgba)
    patch = turned_patch(icon, Pose(64, mirrored=True))
    assert patch[32, 10, 2] == 255
    assert patch[32, -10, 0] == 255


def test_a_box_is_tight_to_what_was_pasted():
    canvas = np.zeros((50, 60, 3), np.uint8)
    patch = np.full((20, 30, 4), 255, np.uint8)
    assert paste(canvas, patch, 5, 8) == (5.0, 8.0, 35.0, 28.0)
    rows, columns = np.nonzero(canvas[:, :, 0])
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (5, 8, 35, 28)


@pytest.mark.parametrize(
    ("corner", "box"),
    [((-10, -5), (0.0, 0.0, 20.0, 15.0)), ((45, 40), (45.0, 40.0, 60.0, 50.0)), ((60, 0), None)],
)
def test_a_box_ends_at_the_frame(corner, box):
    canvas = np.zeros((50, 60, 3), np.uint8)
    assert paste(canvas, np.full((20, 30, 4), 255, np.uint8), *corner) == box


def test_half_transparent_pixels_mix_with_what_is_behind():
    canvas = np.full((4, 4, 3), 100, np.uint8)
    patch = np.zeros((4, 4, 4), np.uint8)
    patch[:] = (128, 0, 0, 128)  # premultiplied: half-transparent red
    paste(canvas, patch, 0, 0)
    assert canvas[0, 0].tolist() == [178, 50, 50]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 10, 10), (20, 20, 30, 30), 0.0),
        ((0, 0, 10, 10), (5, 0, 25, 10), 0.5),
        ((0, 0, 100, 100), (10, 10, 20, 20), 1.0),
    ],
)
def test_overlap_is_a_share_of_the_smaller_box(a, b, expected):
    assert overlap(a, b) == expected


def test_distractors_have_no_box(artwork, photographs):
    settings = SceneSettings(max_objects=1, distractor_share=1.0)
    for index in range(20):
        rng = np.random.default_rng(index)
        scene = draw_scene(rng, artwork, photographs, settings, height=96, width=128)
        assert len(scene.objects) <= 1


def test_varied_scenes_fit_into_the_frame(source):
    shapes = set()
    for index in range(40):
        scene = source.varied_scene(index, 96, 128, other_aspect_share=0.5, reduced_share=0.3)
        height, width = scene.pixels.shape[:2]
        assert height <= 96
        assert width <= 128
        assert height == 96 or width == 128
        shapes.add((height, width))
        for target in scene.objects:
            assert target.box[2] <= width
            assert target.box[3] <= height
    assert len(shapes) > 5
