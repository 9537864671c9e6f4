"""`tandem model calibrate --annotations`: the AP of each latent rate, written into the bundle."""

import json
import shutil

import pytest

from common.bundle import load_bundle, write_bundle
from common.bundle.folder import LATENT_TABLES_NAME
from common.domain.codec import LATENT_CODECS
from tandem.shipped import shipped_clip
from tests.harness import ROOT, TOY_BUNDLE
from tests.integration.evaluation.conftest import BUNDLE
from tests.integration.tandem.commands import json_of, tandem

PICTURES = 6


def measured(folder):
    rates = load_bundle(folder).manifest.bottleneck.rates
    return {name: rate.measured for name, rate in rates.items()}


def without_precision(manifest):
    content = manifest.model_dump()
    for rate in content["bottleneck"]["rates"].values():
        rate["measured"].pop("average_precision")
    return content


@pytest.fixture
def toy(tmp_path):
    return shutil.copytree(TOY_BUNDLE, tmp_path / "toy")


def test_the_precision_of_each_rate_stands_beside_its_bytes(clip_set, tmp_path):
    folder = shutil.copytree(BUNDLE, tmp_path / "bundle")
    before = load_bundle(folder)
    blank = before.manifest.model_copy(deep=True)
    arguments = ("model", "calibrate", folder, *clip_set.options, "--frames", PICTURES)
    told = json_of(tandem(*arguments, "--json"))
    bundle = load_bundle(folder)
    bundle.check_files()
    assert told["digest"] == bundle.digest
    assert told["frames"] == PICTURES
    assert [each["codec"] for each in told["rates"]] == [codec.value for codec in LATENT_CODECS]
    assert {each["codec"]: each["average_precision"] for each in told["rates"]} == {
        name: each.average_precision for name, each in measured(folder).items()
    }
    # What was calibrated is as it was.
    assert without_precision(bundle.manifest) == without_precision(blank)
    # The trained model finds most objects of the clip by any rate.
    assert all(0.5 < each["average_precision"] < 1 for each in told["rates"])
    # The same pictures, the same figures, and the same bytes of the manifest.
    table = tandem(*arguments)
    assert table.returncode == 0, table.stderr
    assert bundle.digest in table.stdout
    precision = measured(folder)["latent-coarse"].average_precision
    assert f"{precision:.4f}" in table.stdout
    shown = tandem("model", "info", folder).stdout
    assert "at AP" in shown and f"{precision:.3f}" in shown


def test_calibrating_on_a_video_keeps_what_was_measured(clip_set, toy):
    json_of(tandem("model", "calibrate", toy, *clip_set.options, "--frames", 1, "--json"))
    before = measured(toy)
    # Its weights are random.
    assert all(each.average_precision is not None for each in before.values())
    video = ("--images", shipped_clip(), "--frames", 12)
    json_of(tandem("model", "calibrate", toy, *video, "--json"))
    after = measured(toy)
    for name, each in after.items():
        assert each.average_precision == before[name].average_precision
        assert each.bytes_per_frame != before[name].bytes_per_frame


def changed(clip_set, folder, change):
    """Annotations with a change, beside the same pictures."""
    content = clip_set.content()
    change(content)
    path = folder / "changed.json"
    path.write_text(json.dumps(content))
    return ("--images", clip_set.images, "--annotations", path)


def rename(content):
    for number, each in enumerate(content["categories"]):
        each["name"] = f"no such thing {number}"


def forget_files(content):
    for each in content["images"]:
        each["file_name"] = f"elsewhere-{each['file_name']}"


def shrink(content):
    for each in content["images"]:
        each["width"] //= 2
    content["annotations"] = [
        {**each, "bbox": [0, 0, 5, 5], "area": 25} for each in content["annotations"]
    ]


def crowd(content):
    for each in content["annotations"]:
        each["iscrowd"] = 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (rename, "names do not settle it"),
        (forget_files, "24 of 24 pictures cannot be used; the first is"),
        (shrink, "but the annotations say"),
        (crowd, "marks crowds only"),
        (lambda content: content.pop("images"), "no list called images"),
    ],
)
def test_annotations_that_do_not_fit_are_refused(clip_set, toy, tmp_path, change, words):
    refused(toy, words, *changed(clip_set, tmp_path, change))


def test_pictures_without_objects_are_refused(clip_set, toy, tmp_path):
    """There are objects, but in pictures that are not taken."""

    def crowd_in_the_first(content):
        first = min(each["id"] for each in content["images"])
        for each in content["annotations"]:
            each["iscrowd"] = int(each["image_id"] == first)

    options = changed(clip_set, tmp_path, crowd_in_the_first)
    refused(toy, "no object is marked in the 1 pictures", *options, "--frames", 1)


@pytest.mark.parametrize(
    ("images", "more", "words"),
    [
        (shipped_clip(), (), "--annotations are of pictures, and"),
        ("nowhere", (), "nowhere is no folder"),
        (None, ("--codec", "q4"), "--codec"),
        (None, ("--engine", "openvino"), "--engine"),
        (None, ("--frames", "0"), "--frames"),
    ],
)
def test_what_does_not_go_with_annotations_is_refused(clip_set, toy, images, more, words):
    options = ("--images", images or clip_set.images, "--annotations", clip_set.annotations)
    refused(toy, words, *options, *more)


def test_missing_annotations_are_refused(clip_set, toy):
    refused(toy, "cannot be read", "--images", clip_set.images, "--annotations", "nowhere.json")


def test_a_bundle_without_a_bottleneck_is_refused(clip_set, tmp_path):
    folder = shutil.copytree(ROOT / "tests/data/demo-r18", tmp_path / "demo")
    refused(folder, "has no bottleneck", *clip_set.options)


def test_a_bottleneck_without_tables_is_refused(clip_set, toy):
    manifest = load_bundle(toy).manifest
    files = {name: each for name, each in manifest.files.items() if name != LATENT_TABLES_NAME}
    write_bundle(toy, manifest.model_copy(update={"files": files}))
    refused(toy, "calibrate on a video first", *clip_set.options)


def test_a_changed_half_is_not_blessed(clip_set, toy):
    with (toy / "transformer.onnx").open("ab") as file:
        file.write(b"\0")
    refused(toy, "transformer.onnx has sha256", *clip_set.options)


def test_a_picture_that_cannot_be_decoded_is_named(clip_set, toy, tmp_path):
    images = shutil.copytree(clip_set.images, tmp_path / "images")
    damaged = min(images.iterdir())
    content = bytearray(damaged.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    damaged.write_bytes(content)
    options = ("--images", images, "--annotations", clip_set.annotations, "--frames", 1)
    refused(toy, damaged.name, *options)


def refused(folder, words, *options):
    """One sentence in the end, and nothing is written."""
    before = (folder / "bundle.json").read_bytes()
    finished = tandem("model", "calibrate", folder, *options)
    assert finished.returncode != 0
    assert finished.stdout == ""
    # Before it, what was put right in the annotations.
    *_, line = finished.stderr.splitlines()
    assert words in line
    assert (folder / "bundle.json").read_bytes() == before
