"""The experiment's ways through real services, with the toy model: bytes and what is kept."""

import json
import shutil

import cv2
import pytest

from common.bundle import load_bundle
from experiments.rate_accuracy.grid import clip_settings, picture_settings
from experiments.rate_accuracy.material import Material, open_clips
from experiments.rate_accuracy.measure import measure
from scenes.clip_folder import write_clip_folder
from scenes.random_clips import random_clip
from scenes.splits import SceneSource
from tandem.client import DetectorClient
from tandem.evaluation.picture_set import category_names, open_picture_set
from tests.harness import TOY_BUNDLE, Cluster
from tests.unit.scenes.conftest import drawn_artwork, drawn_photographs

FRAMES = 8


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(TOY_BUNDLE)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two clips of eight frames."""
    folder = tmp_path_factory.mktemp("clips")
    source = SceneSource("val", 7, drawn_artwork(), drawn_photographs())
    for index in range(2):
        scenes = random_clip(source, index, FRAMES, height=120, width=160)
        write_clip_folder(scenes, folder / f"{index:03d}", "test")
    return folder


@pytest.fixture(scope="module")
def material(clips, bundle):
    return open_clips(clips, noise=0.0, model=category_names(bundle))


@pytest.fixture(scope="module")
def cluster():
    running = Cluster(TOY_BUNDLE, stage_arguments=("--engine-threads", "1"))
    yield running
    running.close()


def setting(found, key):
    return next(one for one in found if one.key == key)


@pytest.fixture
def measured(cluster, bundle, tmp_path):
    """Measures a material with the setting of this key."""

    async def measure_it(material, key):
        found = (clip_settings if material.clips else picture_settings)(bundle.manifest)
        async with DetectorClient(cluster.address) as client:
            return await measure(client, material, setting(found, key), bundle, tmp_path)

    return measure_it


def lines(path):
    return path.read_text().splitlines()


def sizes(path):
    return [json.loads(line)["link_bytes"] for line in lines(path)[1:]]


def test_frames_of_different_clips_are_different_pictures(material):
    ids = material.pictures.image_ids
    assert len(set(ids)) == len(ids) == 2 * FRAMES
    objects = material.pictures.instances["annotations"]
    assert len({one["id"] for one in objects}) == len(objects)
    assert {one["image_id"] for one in objects} <= set(ids)


async def test_a_clip_of_latents_is_one_stream(material, measured, tmp_path):
    point = await measured(material, "latents-latent")
    assert point.frames == 2 * FRAMES
    # The message of a key frame is some 30 bytes longer than its payload, of any other two.
    assert 2 < point.bytes_per_frame - point.payload_bytes < 8
    for clip in ("clip-000", "clip-001"):
        first, *others = sizes(tmp_path / "latents-latent" / f"{clip}.jsonl")
        assert first > max(others)


async def test_a_stopped_clip_begins_anew(material, measured, tmp_path):
    whole = await measured(material, "latents-latent")
    path = tmp_path / "latents-latent" / "clip-001.jsonl"
    before = sizes(path)
    path.write_text("".join(f"{line}\n" for line in lines(path)[:5]))
    again = await measured(material, "latents-latent")
    # Had it gone on in the middle, that frame would have been a key frame.
    assert sizes(path) == before
    assert again.bytes_per_frame == whole.bytes_per_frame
    assert again.ap == whole.ap


async def test_bytes_of_a_video_are_those_of_its_packets(material, measured, tmp_path):
    fine = await measured(material, "h264-crf18")
    coarse = await measured(material, "h264-crf33")
    small = await measured(material, "reduced-h264-crf18")
    assert fine.bytes_per_frame == fine.payload_bytes
    assert small.bytes_per_frame < fine.bytes_per_frame
    assert coarse.bytes_per_frame < fine.bytes_per_frame
    first, *others = sizes(tmp_path / "h264-crf18" / "clip-000.jsonl")
    assert first > max(others)


async def test_boxes_of_a_smaller_video_are_in_the_clip_s_pixels(material, measured, tmp_path):
    # Toy boxes mean nothing, but they span the picture.
    widest = {}
    for key in ("features-fp32", "reduced-h265-crf14"):
        await measured(material, key)
        answers = [json.loads(line) for line in lines(tmp_path / key / "clip-000.jsonl")[1:]]
        widest[key] = max(one[2] for answer in answers for one in answer["detections"])
    assert widest["reduced-h265-crf14"] == pytest.approx(widest["features-fp32"], rel=0.15)


async def test_pictures_of_latents_are_coded_alone(clips, bundle, measured, tmp_path):
    """The same picture three times: given the one before, it would take next to nothing."""
    truth = json.loads((clips / "000" / "annotations.json").read_text())
    images = tmp_path / "images"
    images.mkdir()
    capture = cv2.VideoCapture(str(clips / "000" / "clip.mp4"))
    cv2.imwrite(str(images / "0.png"), capture.read()[1])
    for number in (1, 2):
        shutil.copy(images / "0.png", images / f"{number}.png")
    truth["images"] = [{**one, "file_name": f"{one['id']}.png"} for one in truth["images"][:3]]
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] < 3]
    (tmp_path / "instances.json").write_text(json.dumps(truth))
    pictures = open_picture_set(images, tmp_path / "instances.json", model=category_names(bundle))
    point = await measured(Material("pictures", "pictures", pictures), "latents-latent-fine")
    assert len(set(sizes(tmp_path / "latents-latent-fine" / "pictures.jsonl"))) == 1
    # The message of a frame alone tells its sizes.
    assert point.bytes_per_frame - point.payload_bytes > 30
