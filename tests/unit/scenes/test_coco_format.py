import json

import cv2
import pytest

from common.domain.detections import Box, Detection
from common.domain.errors import ConfigurationError, InvalidInputError
from detr.coco.average_precision import coco_figures
from detr.coco.folder import open_coco
from detr.training.data import normalised_boxes
from scenes.categories import CATEGORIES
from scenes.coco_format import export_coco
from scenes.splits import reduced


@pytest.fixture
def exported(source, tmp_path):
    scenes = [source.scene(index, 96, 128) for index in range(6)]
    path = export_coco(scenes, tmp_path, "test scenes")
    return scenes, path, open_coco(tmp_path / "images", path)


def test_export_round_trip(exported):
    scenes, _, folder = exported
    assert [picture["id"] for picture in folder.pictures] == [1, 2, 3, 4, 5, 6]
    for scene, picture in zip(scenes, folder.pictures, strict=True):
        assert folder.read(picture).shape == scene.pixels.shape
        boxes = [a["bbox"] for a in folder.annotations[picture["id"]]]
        kinds = [a["category_id"] for a in folder.annotations[picture["id"]]]
        corners = [(x, y, x + width, y + height) for x, y, width, height in boxes]
        assert corners == [target.box for target in scene.objects]
        assert kinds == [CATEGORIES[target.class_index].id for target in scene.objects]


def test_pycocotools_gives_the_truth_full_marks(exported):
    scenes, _, folder = exported
    found = [
        (
            number,
            [
                Detection(CATEGORIES[t.class_index].id, "", 0.9 - index / 100, Box(*t.box))
                for index, t in enumerate(scene.objects)
            ],
        )
        for number, scene in enumerate(scenes, start=1)
    ]
    figures = coco_figures(folder.instances, found, range(1, 7))
    assert figures["AP"] == pytest.approx(1.0)
    assert figures["AR100"] == pytest.approx(1.0)


def test_nothing_found_is_zero(exported):
    _, _, folder = exported
    assert coco_figures(folder.instances, [(1, [])], [1])["AP"] == 0.0


def test_boxes_are_clipped_and_empty_ones_left_out():
    annotations = [
        {"bbox": [-10, 10, 30, 20], "category_id": 1},
        {"bbox": [200, 10, 5, 5], "category_id": 2},
    ]
    boxes, classes = normalised_boxes(annotations, (50, 100))
    assert classes == [1]
    assert boxes[0].tolist() == pytest.approx([0.1, 0.4, 0.2, 0.4])


def test_crowds_are_left_out(tmp_path):
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "height": 2, "width": 2}],
        "annotations": [
            {"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1], "iscrowd": 1},
            {"image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 1], "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    folder = open_coco(tmp_path, tmp_path / "instances.json")
    assert [a["category_id"] for a in folder.annotations[5]] == [3]


@pytest.mark.parametrize("text", ["", "[]", '{"images": 3}'])
def test_what_is_not_coco_is_refused(tmp_path, text):
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(ConfigurationError, match="not a COCO instances file"):
        open_coco(tmp_path, tmp_path / "instances.json")


def test_missing_files_are_named(tmp_path, exported):
    with pytest.raises(ConfigurationError, match="absent.json cannot be read"):
        open_coco(tmp_path, tmp_path / "absent.json")
    _, _, folder = exported
    with pytest.raises(InvalidInputError, match="gone.jpg is missing"):
        folder.read({"file_name": "gone.jpg"})


def test_reduced_scenes_keep_boxes_in_place(source):
    scene = source.scene(2, 240, 320)
    small = reduced(scene, 96, 128)
    assert small.pixels.shape == (96, 128, 3)
    for before, after in zip(scene.objects, small.objects, strict=True):
        assert after.box == pytest.approx([value * 0.4 for value in before.box])


def test_pictures_are_written_as_rgb(source, tmp_path):
    scene = source.scene(1, 96, 128)
    export_coco([scene], tmp_path, "one")
    bgr = cv2.imread(str(tmp_path / "images" / "000001.jpg"))
    assert abs(bgr[:, :, ::-1].astype(int) - scene.pixels).mean() < 8
