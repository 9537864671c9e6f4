import copy
import json

import pytest

from common.domain.errors import CallerError
from experiments.evaluation.picture_set import open_picture_set

# Not by id: the order of a file says nothing.
CONTENT = {
    "images": [{"id": number, "file_name": f"{number}.png"} for number in (30, 10, 20)],
    "annotations": [
        {"id": 1, "image_id": 10, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}
    ],
    "categories": [{"id": 1, "name": "person"}],
}


@pytest.fixture
def write(tmp_path):
    """Writes a set with this content, whose pictures are there; returns its paths."""

    def written(content):
        for number in (10, 20, 30):
            (tmp_path / f"{number}.png").write_bytes(b"")
        path = tmp_path / "instances.json"
        path.write_text(json.dumps(content))
        return tmp_path, path

    return written


def test_pictures_come_by_id_and_a_limit_takes_the_lowest(write):
    paths = write(CONTENT)
    assert open_picture_set(*paths).image_ids == [10, 20, 30]
    limited = open_picture_set(*paths, limit=2)
    assert limited.image_ids == [10, 20]
    assert limited.pictures[0].path.name == "10.png"
    assert open_picture_set(*paths, limit=9).image_ids == [10, 20, 30]


def test_the_digest_tells_sets_apart(write):
    digests = [open_picture_set(*write(CONTENT), limit).digest for limit in (None, 2, 3)]
    changed = {**CONTENT, "info": {}}
    digests.append(open_picture_set(*write(changed)).digest)
    assert digests[0] == digests[2]
    assert len(set(digests)) == 3


def without_images(content):
    content["images"] = []
    content["annotations"] = []


def without_one_image(content):
    content["images"] = [each for each in content["images"] if each["id"] != 10]


def with_an_image_twice(content):
    content["images"].append(content["images"][0])


def without_file_name(content):
    del content["images"][0]["file_name"]


def without_area(content):
    del content["annotations"][0]["area"]


def without_box(content):
    content["annotations"][0]["bbox"] = 7


def without_categories(content):
    content["categories"] = []


def with_a_missing_picture(content):
    content["images"][0]["file_name"] = "gone.png"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (without_images, "lists no images"),
        (without_one_image, "an annotation is of image 10, which is not listed"),
        (with_an_image_twice, "lists image 30 twice"),
        (without_file_name, "image 30 has no file_name"),
        (without_area, "annotation 0 has no area"),
        (without_box, "the bbox of annotation 0 is not x, y, w, h"),
        (without_categories, "lists no categories"),
        (with_a_missing_picture, r"1 of 3 pictures are missing; the first is .*gone\.png"),
    ],
)
def test_a_damaged_set_is_refused(write, damage, sentence):
    content = copy.deepcopy(CONTENT)
    damage(content)
    with pytest.raises(CallerError, match=sentence):
        open_picture_set(*write(content))
