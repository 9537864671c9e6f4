"""`tandem evaluate`: what it writes, how it resumes, what it refuses."""

import asyncio
import json
import re
import shutil
import signal
import zlib

import cv2
import pytest

from detr.coco.average_precision import FIGURES
from tandem.evaluation.cli import ANSWERS_NAME
from tests.harness import ROOT, TOY_BUNDLE, Cluster, clean_environment
from tests.integration.evaluation.clip_set import ClipSet
from tests.integration.evaluation.conftest import BUNDLE
from tests.integration.tandem.commands import TANDEM, json_of, started, tandem
from tests.integration.tandem.toy_orchestrator import ToyDetector, serving
from tests.waiting import wait_until

SLOW = ("--engine-threads", "1", "--paced-milliseconds", "100")
CODEC = ("--codec", "fp32")


@pytest.fixture(scope="module")
def slow_cluster():
    """The trained model at ten frames a second, so that a run can be killed on its way."""
    running = Cluster(BUNDLE, stage_arguments=SLOW)
    yield running
    running.close()


@pytest.fixture
def own_set(clip_set, tmp_path):
    """A set that one test may damage."""
    folder = shutil.copytree(clip_set.annotations.parent, tmp_path / "set")
    return ClipSet(folder / "images", folder / "instances.json")


def answers_in(path):
    """Whole lines below the settings."""
    return path.read_text().count("\n") - 1 if path.exists() else 0


def error_of(finished):
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    return line


def test_files_and_figures(cluster, clip_set, tmp_path):
    arguments = ("evaluate", *clip_set.options, *CODEC, "--placement", "backbone")
    told = json_of(tandem(*arguments, "--server", cluster.address, "--output", tmp_path, "--json"))
    assert list(told) == [*FIGURES, "frames", "fps", "bytes_per_frame"]
    assert told["frames"] == 24
    assert told["fps"] > 0
    record = json.loads((tmp_path / "record.json").read_text())
    assert {name: record[name] for name in told} == told
    assert record["settings"]["placement"] == "backbone"
    assert record["versions"]["pycocotools"]
    # The toy model answers with five boxes, whatever it sees, and none is left out.
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == 24 * 5
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score"}
    assert cv2.imread(str(tmp_path / "precision-recall.png")).shape[2] == 3
    assert not (tmp_path / ANSWERS_NAME).exists()


def test_people_get_a_table_and_local_nodes(clip_set, tmp_path):
    arguments = ("evaluate", *clip_set.options, "--bundle", TOY_BUNDLE, "--limit", 3)
    finished = tandem(*arguments, "--output", tmp_path)
    assert finished.returncode == 0, finished.stderr
    for expected in (*FIGURES, "3 frames", "results.json"):
        assert expected in finished.stdout
    record = json.loads((tmp_path / "record.json").read_text())
    assert len(record["settings"]["bundle"]) == 64


def test_the_limit_takes_the_lowest_ids(cluster, clip_set, tmp_path):
    arguments = ("evaluate", *clip_set.options, *CODEC, "--server", cluster.address, "--json")
    told = json_of(tandem(*arguments, "--limit", 5, "--output", tmp_path))
    assert told["frames"] == 5
    results = json.loads((tmp_path / "results.json").read_text())
    assert sorted({each["image_id"] for each in results}) == [0, 10, 20, 30, 40]


def test_bytes_on_the_link_are_those_of_what_is_sent(cluster, clip_set, tmp_path):
    arguments = ("evaluate", *clip_set.options, "--server", cluster.address, "--json")
    where = ("--placement", "workstation", "--output", tmp_path)
    sizes = [path.stat().st_size for path in clip_set.images.iterdir()]
    as_they_are = json_of(tandem(*arguments, *where))["bytes_per_frame"]
    assert as_they_are == pytest.approx(sum(sizes) / len(sizes))
    fine, coarse = (
        json_of(tandem(*arguments, *where, "--jpeg-quality", quality))["bytes_per_frame"]
        for quality in (95, 30)
    )
    assert coarse < 0.5 * fine < 0.5 * as_they_are


def test_a_killed_run_resumes_to_the_same_figures(slow_cluster, clip_set, tmp_path):
    arguments = ("evaluate", *clip_set.options, *CODEC, "--server", slow_cluster.address, "--json")
    whole = json_of(tandem(*arguments, "--output", tmp_path / "whole"))
    halves = (*arguments, "--output", tmp_path / "halves")
    unfinished = tmp_path / "halves" / ANSWERS_NAME
    # Whoever was stopped before the kill finds the whole run done, and has to try another one.
    for _ in range(5):
        shutil.rmtree(unfinished.parent, ignore_errors=True)
        with started(*halves) as process:
            assert wait_until(lambda: answers_in(unfinished) >= 5)
            process.kill()
            process.wait()
        answered = answers_in(unfinished)
        if answered < 24:
            break
    assert 5 <= answered < 24
    resumed = json_of(tandem(*halves))
    assert {name: resumed[name] for name in FIGURES} == {name: whole[name] for name in FIGURES}
    assert whole["AP"] > 0.7
    record = json.loads((tmp_path / "halves" / "record.json").read_text())
    assert record["frames_of_earlier_runs"] == answered
    results = [(tmp_path / run / "results.json").read_bytes() for run in ("whole", "halves")]
    assert results[0] == results[1]


class StallingDetector(ToyDetector):
    """Answers so many frames, then none until it may go on; notes the pictures it answered."""

    def __init__(self, count):
        super().__init__()
        self.count = count
        self.may_go_on = asyncio.Event()
        self.answered = []

    async def answer(self, frame, context):
        if len(self.answered) == self.count:
            await self.may_go_on.wait()
        self.answered.append(frame.encoded)
        return await super().answer(frame, context)


async def evaluate_process(*arguments):
    return await asyncio.create_subprocess_exec(
        *TANDEM, *map(str, arguments), cwd=ROOT, env=clean_environment()
    )


async def test_no_frame_that_was_answered_is_sent_again(clip_set, tmp_path):
    detector = StallingDetector(9)
    async with serving(detector) as address:
        arguments = ("evaluate", *clip_set.options, "--server", address, "--output", tmp_path)
        process = await evaluate_process(*arguments)
        path = tmp_path / ANSWERS_NAME
        assert await asyncio.to_thread(wait_until, lambda: answers_in(path) == 9)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM
        detector.may_go_on.set()
        process = await evaluate_process(*arguments)
        assert await process.wait() == 0
    pictures = [path.read_bytes() for path in clip_set.images.iterdir()]
    assert sorted(detector.answered) == sorted(pictures)


def undecodable_png(whole):
    """Header and checksums are right, so that only decoding shows that nothing is in it."""
    data = b"IDAT" + b"no pixels"
    chunk = (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    return whole[: whole.index(b"IDAT") - 4] + chunk + whole[whole.index(b"IEND") - 4 :]


def test_a_run_with_other_settings_is_not_continued(cluster, own_set, tmp_path):
    first = own_set.images / "000000.png"
    whole = first.read_bytes()
    first.write_bytes(undecodable_png(whole))
    output = tmp_path / "output"
    where = ("--server", cluster.address, "--output", output)
    arguments = ("evaluate", *own_set.options, *where)
    assert "1 of 24 frames could not be answered; the first is 000000.png: " in error_of(
        tandem(*arguments, "--placement", "backbone")
    )
    for more, change in (
        (("--placement", "full"), "placement was backbone, is full"),
        (("--placement", "backbone", "--codec", "fp16"), "codec was not given, is fp16"),
        (("--placement", "backbone", "--limit", 7), "frames was 24, is 7"),
    ):
        line = error_of(tandem(*arguments, *more))
        assert "unfinished run with other settings" in line
        assert change in line
    # Only the frame that failed is sent, now that it is a picture.
    first.write_bytes(whole)
    json_of(tandem(*arguments, "--placement", "backbone", "--json"))
    record = json.loads((output / "record.json").read_text())
    assert record["frames_of_earlier_runs"] == 23


def test_missing_inputs_are_named(clip_set, tmp_path):
    nowhere, text = tmp_path / "nowhere", tmp_path / "text.json"
    text.write_text("no JSON")
    for images, annotations, sentence in (
        (nowhere, clip_set.annotations, f"there is no folder {nowhere}"),
        (clip_set.images, nowhere, f"{nowhere} cannot be read"),
        (clip_set.images, text, "is not a COCO instances file"),
    ):
        finished = tandem("evaluate", "--images", images, "--annotations", annotations)
        assert sentence in error_of(finished)


def test_a_bundle_is_of_no_use_beside_a_server(clip_set):
    both = ("--server", "127.0.0.1:1", "--bundle", TOY_BUNDLE)
    finished = tandem("evaluate", *clip_set.options, *both)
    assert finished.returncode == 2
    assert "--bundle sets up local nodes" in finished.stderr


def rewritten(own_set, change):
    """The set, its annotations file changed."""
    content = own_set.content()
    change(content)
    own_set.annotations.write_text(json.dumps(content))
    return own_set


def number_otherwise(content):
    """One id for all annotations, image ids that float64 cannot tell apart, categories from 0."""
    categories = {one["id"]: number for number, one in enumerate(content["categories"])}
    for entry in content["images"]:
        entry["id"] += 2**53
    for annotation in content["annotations"]:
        annotation["id"] = 1
        annotation["image_id"] += 2**53
        annotation["category_id"] = categories[annotation["category_id"]]
    for category in content["categories"]:
        category["id"] = categories[category["id"]]


def test_how_entries_are_numbered_changes_no_figure(trained_cluster, own_set, clip_set, tmp_path):
    options = (*CODEC, "--limit", 8, "--json")
    server = ("--server", trained_cluster.address)
    right = json_of(
        tandem("evaluate", *clip_set.options, *options, *server, "--output", tmp_path / "a")
    )
    changed = rewritten(own_set, number_otherwise)
    local = ("--bundle", BUNDLE, "--output", tmp_path / "b")
    finished = tandem("evaluate", *changed.options, *options, *local)
    told = json_of(finished)
    assert "annotation ids are not unique; all are numbered anew" in finished.stderr
    assert "categories are matched by name" in finished.stderr
    assert {name: told[name] for name in FIGURES} == pytest.approx(
        {name: right[name] for name in FIGURES}, abs=5e-5
    )
    assert right["AP"] > 0.7
    # The results are under the set's own ids, so that other tools can read them beside it.
    results = json.loads((tmp_path / "b" / "results.json").read_text())
    content = changed.content()
    assert {one["image_id"] for one in results} <= {one["id"] for one in content["images"]}
    assert {one["category_id"] for one in results} <= {one["id"] for one in content["categories"]}


def other_categories(content):
    for category in content["categories"]:
        category["name"] = f"part {category['id']}"


def test_a_set_of_other_categories_is_refused(cluster, own_set, tmp_path):
    changed = rewritten(own_set, other_categories)
    arguments = ("evaluate", *changed.options, "--output", tmp_path / "a")
    line = error_of(tandem(*arguments, "--bundle", BUNDLE))
    assert "category 1 is 'part 1', but the model's category 1 is 'person'" in line
    # Of a server the model's names are known from its answers.
    line = error_of(tandem(*arguments, "--server", cluster.address))
    assert re.search(r"the model calls category \d+ '\w+', the annotations call it 'part", line)
