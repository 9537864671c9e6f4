"""The first images of a COCO set."""

import json

import pytest

from common.domain.errors import InvalidInputError
from experiments.placements.config import CocoSource
from experiments.placements.inputs import coco_files
from tests.streams import encoded, picture


def source(folder, limit):
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (30, 4, 20)]
    (folder / "instances.json").write_text(json.dumps({"images": images}))
    return CocoSource(
        kind="coco", images=folder, annotations=folder / "instances.json", limit=limit
    )


def test_images_come_by_id_up_to_the_limit(tmp_path):
    for number in (4, 20):
        (tmp_path / f"{number}.jpg").write_bytes(encoded(picture(number), ".jpg"))
    assert [path.name for path in coco_files(source(tmp_path, 2))] == ["4.jpg", "20.jpg"]


def test_missing_images_are_counted(tmp_path):
    (tmp_path / "4.jpg").write_bytes(encoded(picture(4), ".jpg"))
    with pytest.raises(InvalidInputError, match=r"2 of 3 pictures.*image 20: .*20\.jpg is missing"):
        coco_files(source(tmp_path, 1000))
