"""COCO files and their pictures: what is put right, and what is refused by name."""

import math

import cv2
import numpy as np
import pytest

from common.domain.detections import Box, Detection
from common.domain.errors import ConfigurationError, InvalidInputError
from detr.coco.average_precision import coco_figures
from detr.coco.folder import check_pictures, open_coco
from tests.coco_sets import coco_set

KNOWN = {1: "person", 3: "car"}


@pytest.fixture
def made(tmp_path):
    return coco_set(tmp_path)


def opened(made, model=None):
    """The folder, and what was said."""
    said = []
    folder = open_coco(made.images, made.annotations, model=model, say=said.append)
    check_pictures(folder.images, folder.pictures)
    return folder, " ".join(said)


def figures_of_truth(folder):
    """AP of an answer that says exactly what is true, surely."""
    found = [
        (
            picture["id"],
            [
                Detection(each["category_id"], "", 0.9, corners(each["bbox"]))
                for each in folder.annotations[picture["id"]]
            ],
        )
        for picture in folder.pictures
    ]
    ids = [picture["id"] for picture in folder.pictures]
    return coco_figures(folder.instances, found, ids)


def corners(box):
    x, y, width, height = box
    return Box(x, y, x + width, y + height)


def test_a_right_set_is_taken_without_a_word(made):
    folder, said = opened(made, KNOWN)
    assert [picture["id"] for picture in folder.pictures] == [10, 20, 30]
    assert said == ""
    assert figures_of_truth(folder)["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    "ids", [[7] * 6, [0, 1, 2, 3, 4, 5], [None] * 6, [2**60 + n for n in range(6)]]
)
def test_annotation_ids_do_not_change_the_figures(made, ids):
    for annotation, number in zip(made.content["annotations"], ids, strict=True):
        annotation["id"] = number
    folder, said = opened(made)
    assert figures_of_truth(folder)["AP"] == pytest.approx(1)
    assert ("numbered anew" in said) == (len(set(ids)) == 1)


@pytest.mark.parametrize("offset", [-20, -(2**70), 2**53, 2**63, 2**80])
def test_image_ids_may_be_any_whole_numbers(made, offset):
    """Neighbours beyond 2^53 are one number to pycocotools, which computes in float64."""
    for index, image in enumerate(made.content["images"]):
        former, image["id"] = image["id"], offset + index
        for annotation in made.content["annotations"]:
            if annotation["image_id"] == former:
                annotation["image_id"] = image["id"]
    folder, _ = opened(made)
    assert figures_of_truth(folder)["AP"] == pytest.approx(1)
    assert set(folder.annotations) == {offset, offset + 1, offset + 2}


def test_category_ids_may_be_large_too(made):
    made.content["categories"][1]["id"] = 2**60 + 1
    made.content["categories"].append({"id": 2**60, "name": "bus"})
    for annotation in made.content["annotations"]:
        if annotation["category_id"] == 3:
            annotation["category_id"] = 2**60 + 1
    assert figures_of_truth(opened(made)[0])["AP"] == pytest.approx(1)


def set_field(kind, key, value):
    def damage(content):
        content[kind][1][key] = value

    return damage


def set_in_all(kind, key, value):
    def damage(content):
        for entry in content[kind]:
            entry[key] = value

    return damage


def drop_field(kind, key):
    def damage(content):
        del content[kind][1][key]

    return damage


def set_list(kind, value):
    def damage(content):
        content[kind] = value

    return damage


def repeat(kind):
    def damage(content):
        content[kind].append(dict(content[kind][0]))

    return damage


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (set_list("images", []), "lists no images"),
        (set_list("images", None), "no list called images"),
        (set_list("annotations", {}), "no list called annotations"),
        (set_list("annotations", []), "lists no annotations"),
        (set_in_all("annotations", "iscrowd", 1), "marks crowds only"),
        (set_in_all("annotations", "bbox", [4, 6, 0, 30]), "no box has any extent"),
        (set_list("categories", []), "lists no categories"),
        (set_list("annotations", [3]), "annotation at position 0 is 3, not an object"),
        (repeat("images"), "lists image 30 twice"),
        (repeat("categories"), "lists category 1 twice"),
        (
            set_field("images", "id", "20"),
            "image '20' has the id '20'; it has to be a whole number",
        ),
        (set_field("images", "id", 20.5), "image 20.5 has the id 20.5"),
        (set_field("images", "id", True), "image True has the id True"),
        (drop_field("images", "id"), "image at position 1 has no id"),
        (drop_field("images", "file_name"), "image 20 has no file_name"),
        (set_field("images", "file_name", 20), "image 20 has no file_name"),
        (set_field("images", "file_name", "a\0b.png"), "image 20: .* cannot be read"),
        (set_field("images", "width", "64"), "image 20 has the width '64'"),
        (set_field("images", "height", 0), "image 20 has the height 0"),
        (
            set_field("annotations", "image_id", 11),
            "annotation 2 is of image 11, which is not listed",
        ),
        (set_field("annotations", "image_id", "30"), "annotation 2 has the image_id '30'"),
        (set_field("annotations", "category_id", 9), "annotation 2 is of category 9, which is not"),
        (set_field("annotations", "category_id", [1]), r"annotation 2 has the category_id \[1\]"),
        (set_field("annotations", "iscrowd", 2), "annotation 2 has the iscrowd 2"),
        (set_field("annotations", "iscrowd", "0"), "annotation 2 has the iscrowd '0'"),
        (set_field("annotations", "area", -3), "annotation 2 has the area -3"),
        (set_field("annotations", "area", "1"), "annotation 2 has the area '1'"),
        (set_field("annotations", "id", "x"), "annotation 'x' has the id 'x'"),
        (drop_field("annotations", "bbox"), "annotation 2 has the bbox None"),
        (set_field("annotations", "bbox", [1, 2, 3]), r"annotation 2 has the bbox \[1, 2, 3\]"),
        (set_field("annotations", "bbox", [1, 2, 3, "4"]), "annotation 2 has the bbox"),
        (set_field("annotations", "bbox", [1, 2, math.nan, 4]), "annotation 2 has the bbox"),
        (set_field("annotations", "bbox", [1, 2, 3, math.inf]), "annotation 2 has the bbox"),
        (set_field("annotations", "bbox", [1, 2, 3, 10**400]), "annotation 2 has the bbox"),
        (set_field("annotations", "bbox", [9, 9, -3, 4]), "annotation 2 has a bbox of size -3 x 4"),
        (set_field("annotations", "bbox", [70, 2, 3, 4]), "lies outside of its image of 64 x 48"),
        (set_field("annotations", "bbox", [-9, 2, 3, 4]), "lies outside of its image of 64 x 48"),
        (set_field("categories", "name", ""), "category 3 has no name"),
        (set_field("categories", "name", 7), "category 3 has no name"),
        (set_field("categories", "name", "person"), "2 categories called 'person'"),
        (set_field("categories", "id", "3"), "category '3' has the id '3'"),
    ],
)
def test_what_is_wrong_is_refused_by_name(made, damage, sentence):
    damage(made.content)
    with pytest.raises((ConfigurationError, InvalidInputError), match=sentence):
        opened(made)


def test_corners_in_place_of_sizes_are_noticed(made):
    for annotation in made.content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x + 30 * (x < 30), y + 11, 64, 48]
    with pytest.raises(ConfigurationError, match="would fit as two corners"):
        opened(made)


def repeat_picture(content):
    content["images"].append({**content["images"][0], "id": 999})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_field("annotations", "area"), "1 of 6 annotations have no area"),
        (drop_field("annotations", "id"), "1 annotations have no id"),
        (set_field("annotations", "bbox", [4, 6, 0, 30]), "1 of 6 boxes have no extent"),
        (set_field("annotations", "bbox", [50, 30, 30, 30]), "1 of 6 boxes reach beyond"),
        (repeat_picture, "1 images name a picture that another image names too"),
        (drop_field("annotations", "iscrowd"), ""),
        (set_field("annotations", "image_id", 30.0), ""),
        (drop_field("images", "width"), ""),
    ],
)
def test_what_is_beyond_doubt_is_put_right_and_said(made, change, said):
    change(made.content)
    folder, told = opened(made)
    assert said in told
    assert bool(told) == bool(said)
    assert figures_of_truth(folder)["AP"] == pytest.approx(1)


def test_a_byte_order_mark_is_passed_over(made):
    text = made.annotations.read_text()
    (made.folder / "marked.json").write_text(text, encoding="utf-8-sig")
    assert len(open_coco(made.images, made.folder / "marked.json").pictures) == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "[" * 100_000, '{"images": 1' + "0" * 5000 + "}"]
)
def test_other_files_are_refused(made, text):
    path = made.folder / "other.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"other\.json is not a COCO instances file"):
        open_coco(made.images, path)


def renamed(made, ids):
    """The set with other category ids, in the order of its categories."""
    new = dict(zip((1, 3), ids, strict=True))
    for category in made.content["categories"]:
        category["id"] = new[category["id"]]
    for annotation in made.content["annotations"]:
        annotation["category_id"] = new[annotation["category_id"]]


@pytest.mark.parametrize(
    ("ids", "model", "expected"),
    [
        ((1, 3), KNOWN, {1: 1, 3: 3}),
        ((0, 1), KNOWN, {0: 1, 1: 3}),
        # The worst: both ids are known, as the other one.
        ((3, 1), KNOWN, {3: 1, 1: 3}),
        ((0, 1), {1: "Person", 3: " CAR "}, {0: 1, 1: 3}),
        ((1, 3), {**KNOWN, 17: "cat"}, {1: 1, 3: 3}),
        # An import without names.
        ((1, 3), {1: "class 1", 3: "class 3"}, {1: 1, 3: 3}),
    ],
)
def test_categories_are_matched_by_id_else_by_name(made, ids, model, expected):
    renamed(made, ids)
    folder, said = opened(made, model)
    assert folder.categories == expected
    assert ("matched by name" in said) == (ids != (1, 3))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({1: "person", 3: "dog"}, "category 3 is 'car', but the model's category 3 is 'dog'"),
        ({0: "person", 1: "dog"}, "category 3 is 'car', but the model has no category 3"),
        ({7: "cat", 8: "dog"}, "the model does not know 'person'; it knows cat, dog"),
    ],
)
def test_categories_that_contradict_the_models_are_refused(made, model, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        opened(made, model)


def test_a_category_that_the_model_does_not_know_is_said(made):
    folder, said = opened(made, {1: "person"})
    assert "does not know car; their objects count as missed" in said
    assert folder.categories == {1: 1}


def test_a_resized_picture_is_refused_by_both_sizes(made):
    cv2.imwrite(str(made.images / "20.png"), np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(InvalidInputError, match=r"image 20: .*32 x 24 pixels.* 64 x 48: .*resized"):
        opened(made)


def turned_jpeg(pixels):
    """A JPEG with EXIF orientation 6: to be shown turned clockwise."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


def test_exif_orientation_is_not_applied(made):
    pixels = cv2.imread(str(made.images / "20.png"))
    pixels[:, :32] = (0, 0, 255)
    path = made.images / "20.png"
    path.write_bytes(turned_jpeg(pixels))
    # What other readers do, so that the file is what it has to be.
    assert cv2.imread(str(path)).shape == (64, 48, 3)
    folder, _ = opened(made)
    read = folder.read(folder.pictures[1])
    assert read.shape == (48, 64, 3)
    assert abs(read[:, :24].astype(int) - (255, 0, 0)).mean() < 8


def test_labels_made_on_the_turned_picture_are_refused(made):
    path = made.images / "20.png"
    path.write_bytes(turned_jpeg(np.zeros((64, 48, 3), np.uint8)))
    with pytest.raises(
        InvalidInputError, match="48 x 64 pixels, but .* 64 x 48: .*EXIF orientation"
    ):
        opened(made)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"20\.png is missing"),
        (b"", "the image is empty"),
        (b"GIF89a", "neither JPEG nor PNG"),
        (b"\x89PNG\r\n\x1a\n\0\0", "cut off"),
    ],
)
def test_pictures_that_cannot_be_read_are_named(made, content, sentence):
    path = made.images / "20.png"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=f"1 of 3 pictures.*image 20: .*{sentence}"):
        opened(made)


def test_a_missing_folder_is_named(made):
    with pytest.raises(ConfigurationError, match="there is no folder"):
        open_coco(made.folder / "elsewhere", made.annotations)
