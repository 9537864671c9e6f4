import pytest

from common.domain.detections import Box, Detection
from common.domain.errors import CallerError, ConfigurationError
from tandem.evaluation.picture_set import open_picture_set
from tests.coco_sets import coco_set

BOX = Box(0, 0, 1, 1)


@pytest.fixture
def made(tmp_path):
    return coco_set(tmp_path)


def test_pictures_come_by_id_and_a_limit_takes_the_lowest(made):
    paths = (made.images, made.annotations)
    assert open_picture_set(*paths).image_ids == [10, 20, 30]
    limited = open_picture_set(*paths, limit=2)
    assert limited.image_ids == [10, 20]
    assert limited.pictures[0].path.name == "10.png"
    assert open_picture_set(*paths, limit=9).image_ids == [10, 20, 30]


def test_the_digest_tells_sets_apart(made):
    digests = [open_picture_set(made.images, made.annotations, n).digest for n in (None, 2, 3)]
    made.content["info"] = {}
    digests.append(open_picture_set(made.images, made.annotations).digest)
    assert digests[0] == digests[2]
    assert len(set(digests)) == 3


def test_pictures_beyond_the_limit_need_not_be_there(made):
    (made.images / "30.png").unlink()
    assert open_picture_set(made.images, made.annotations, 2).image_ids == [10, 20]
    with pytest.raises(CallerError, match=r"1 of 3 pictures .*30\.png is missing"):
        open_picture_set(made.images, made.annotations)


def test_pictures_in_which_nothing_is_marked_are_refused(made):
    """There are objects, but in pictures beyond the limit."""
    for annotation in made.content["annotations"]:
        annotation["iscrowd"] = int(annotation["image_id"] != 30)
    assert open_picture_set(made.images, made.annotations).image_ids == [10, 20, 30]
    with pytest.raises(ConfigurationError, match="no object is marked in the 2 pictures"):
        open_picture_set(made.images, made.annotations, limit=2)


def test_results_are_under_the_sets_own_ids(made):
    """What the set does not know is left out."""
    for category in made.content["categories"]:
        category["id"] += 100
    for annotation in made.content["annotations"]:
        annotation["category_id"] += 100
    pictures = open_picture_set(
        made.images, made.annotations, model={1: "person", 3: "car", 17: "cat"}
    )
    found = (Detection(1, "person", 0.9, BOX), Detection(3, "car", 0.8, BOX))
    rows = pictures.rows(10, (*found, Detection(17, "cat", 0.7, BOX)))
    assert [row.category_id for row in rows] == [101, 103]


def test_a_server_that_names_categories_otherwise_is_refused(made):
    pictures = open_picture_set(made.images, made.annotations)
    with pytest.raises(
        ConfigurationError, match="calls category 3 'bolt', the annotations.* 'car'"
    ):
        pictures.rows(10, (Detection(3, "bolt", 0.8, BOX),))
