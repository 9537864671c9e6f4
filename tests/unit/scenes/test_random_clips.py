import json
from itertools import islice

import av
import numpy as np
import pytest

from scenes.artwork import icon_from_rgba
from scenes.camera import sensor_noise
from scenes.clip_folder import write_clip_folder
from scenes.compositor import Pose, Scene, placed_patch
from scenes.random_clips import random_clip, shot_lengths
from scenes.shots import StillCamera, random_shot
from scenes.splits import SceneSource

SIZE = {"height": 72, "width": 96}


def frames(source, index=0, count=6, noise=0.0):
    return list(random_clip(source, index, count, **SIZE, noise=noise))


def same(one, other):
    return all(
        np.array_equal(a.pixels, b.pixels) and a.objects == b.objects
        for a, b in zip(one, other, strict=True)
    )


def test_a_clip_depends_on_seed_split_and_index_alone(source, artwork, photographs):
    assert same(frames(source), frames(source))
    for other in (
        frames(source, index=1),
        frames(SceneSource("val", source.seed, artwork, photographs)),
        frames(SceneSource("train", source.seed + 1, artwork, photographs)),
    ):
        assert not any(
            np.array_equal(a.pixels, b.pixels) for a, b in zip(frames(source), other, strict=True)
        )


def test_a_clip_is_drawn_from_its_own_split(artwork, photographs):
    """Everything comes from the source that was given: no file, no other artwork."""
    white = np.full((200, 300, 3), 255, np.uint8)
    source = SceneSource("val", 7, artwork, type(photographs)(((white,),)))
    shot = random_shot(np.random.default_rng(4), source, 4, 72, 96)
    names = {icon.name for icons in (*artwork.icons, artwork.distractors) for icon in icons}
    assert {mover.icon.name for mover in shot.movers} <= names


def test_noise_changes_pixels_and_nothing_else(source):
    clean, noisy = frames(source), frames(source, noise=8.0)
    assert [one.objects for one in clean] == [one.objects for one in noisy]
    # Apart from what is clipped at black and white.
    inner = [(a.pixels > 40) & (a.pixels < 215) for a in clean]
    difference = np.concatenate(
        [
            (b.pixels.astype(int) - a.pixels)[mask]
            for a, b, mask in zip(clean, noisy, inner, strict=True)
        ]
    )
    assert difference.std() == pytest.approx(8.0, abs=0.3)
    assert abs(difference.mean()) < 0.3
    # The sensor's noise is another one in every frame.
    assert not np.array_equal(noisy[0].pixels - clean[0].pixels, noisy[1].pixels - clean[1].pixels)


def test_noise_keeps_the_brightness():
    grey = np.full((100, 100, 3), 100, np.uint8)
    noisy = sensor_noise(np.random.default_rng(3), grey, 2.0)
    assert noisy.mean() == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize("total", [1, 40, 96, 500])
def test_shots_fill_the_clip(total):
    for seed in range(20):
        lengths = shot_lengths(np.random.default_rng(seed), total)
        assert sum(lengths) == total
        assert min(lengths) >= min(total, 12)


def test_objects_stay_in_the_frame_and_in_what_is_drawn(source):
    """Every box is where its object is drawn: a box of another frame would not fit the motion."""
    moved = 0
    for seed in range(12):
        shot = random_shot(np.random.default_rng(seed), source, 12, 72, 96)
        scenes = list(shot.scenes(72, 96))
        expected = sum(mover.class_index is not None for mover in shot.movers)
        for scene in scenes:
            assert len(scene.objects) == expected
            for target in scene.objects:
                x_min, y_min, x_max, y_max = target.box
                assert 0 <= x_min < x_max <= 96
                assert 0 <= y_min < y_max <= 72
        moved += scenes[0].objects != scenes[-1].objects
    assert moved > 6


def test_a_still_object_moves_with_the_background(source):
    """Of a shot in which only the camera moves, each frame is the first one, shifted."""
    for seed in range(200):
        shot = random_shot(np.random.default_rng(seed), source, 9, 72, 96)
        still = [mover for mover in shot.movers if mover.still]
        if still and shot.camera.start != shot.camera.end and shot.camera.zoom == 1.0:
            break
    x, y, _ = shot.camera.view(1.0, 8)
    x0, y0, _ = shot.camera.view(0.0, 0)
    _, *first = still[0].drawn(shot.camera, 0.0, 0, (96, 72))
    _, *last = still[0].drawn(shot.camera, 1.0, 8, (96, 72))
    assert np.subtract(last, first) == pytest.approx((x0 - x, y0 - y))


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.9])
def test_a_patch_is_placed_to_a_fraction_of_a_pixel(shift):
    # Soft edges, so that the middle can be told.
    away = np.hypot(*(np.mgrid[0:64, 0:64] - 31.5))
    rgba = np.repeat(np.clip(255 - 8 * away, 0, 255).astype(np.uint8)[:, :, None], 4, axis=2)
    patch, (left, top) = placed_patch(
        icon_from_rgba("test", "hill", rgba), Pose(40.0), 50 + shift, 30.0
    )
    alpha = patch[:, :, 3].astype(float)
    columns = left + np.arange(patch.shape[1])
    rows = top + np.arange(patch.shape[0])
    assert (alpha.sum(0) @ columns) / alpha.sum() == pytest.approx(50 + shift, abs=0.03)
    assert (alpha.sum(1) @ rows) / alpha.sum() == pytest.approx(30.0, abs=0.03)


def test_the_video_is_what_the_camera_saw(tmp_path, source):
    scenes = frames(source, count=5)
    # Grey frames: 4:2:0 keeps all of them.
    grey = [Scene(np.repeat(one.pixels[:, :, :1], 3, axis=2), one.objects) for one in scenes]
    video, annotations = write_clip_folder(grey, tmp_path / "clip", "test")
    with av.open(str(video)) as container:
        decoded = [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]
    # Video holds 220 levels of grey.
    for scene, pixels in zip(grey, decoded, strict=True):
        assert np.abs(pixels.astype(int) - scene.pixels).max() <= 2
    content = json.loads(annotations.read_text())
    assert [image["id"] for image in content["images"]] == list(range(5))
    boxes = [
        [(x, y, x + w, y + h) for x, y, w, h in (one["bbox"] for one in found)]
        for found in (
            [one for one in content["annotations"] if one["image_id"] == number]
            for number in range(5)
        )
    ]
    assert boxes == [[target.box for target in one.objects] for one in scenes]


def test_a_clip_is_made_frame_by_frame(source):
    """Nobody has to hold a long clip in memory."""
    assert len(list(islice(random_clip(source, 0, 100_000, **SIZE), 2))) == 2


def test_before_a_fixed_camera_nothing_changes_but_what_moves(source):
    for seed in range(6):
        shot = random_shot(np.random.default_rng(seed), source, 6, 72, 96, still=StillCamera(1.0))
        first, *others = shot.scenes(72, 96)
        assert all(same([first], [other]) for other in others)
    moved = 0
    for seed in range(12):
        shot = random_shot(np.random.default_rng(seed), source, 6, 72, 96, still=StillCamera(0.0))
        if any(mover.class_index is None for mover in shot.movers):
            continue  # its box is not told
        first, *_, last = shot.scenes(72, 96)
        outside = np.ones((72, 96), bool)
        for target in first.objects + last.objects:
            x_min, y_min, x_max, y_max = (round(side) for side in target.box)
            # Soft edges reach a little further than the box.
            outside[max(0, y_min - 4) : y_max + 4, max(0, x_min - 4) : x_max + 4] = False
        assert np.array_equal(first.pixels[outside], last.pixels[outside])
        moved += not np.array_equal(first.pixels, last.pixels)
    assert moved > 3


def test_a_fixed_camera_makes_no_cuts(source):
    """The objects of the first frame are those of all frames."""
    for index in range(3):
        clip = list(random_clip(source, index, 250, **SIZE, still=StillCamera(0.5)))
        assert len({tuple(one.class_index for one in scene.objects) for scene in clip}) == 1
    cut = list(random_clip(source, 0, 250, **SIZE))
    assert len({tuple(one.class_index for one in scene.objects) for scene in cut}) > 1
