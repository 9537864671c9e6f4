"""`tandem detect` with what people bring, and when it is interrupted."""

import json
import os
import signal
import stat
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tandem.pictures import encode_png
from tests.harness import TOY_BUNDLE, Cluster
from tests.integration.tandem.commands import started, tandem
from tests.network_cameras import camera, jpeg
from tests.unit.tandem.factories import encoded, read_video, write_video
from tests.unit.tandem.test_videos import write_variable
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

# A camera that sends nothing is given up after 10 s, which nobody who leaves waits for.
LESS_THAN_SILENCE_SECONDS = 8


@pytest.fixture(scope="module")
def server():
    running = Cluster(orchestrator_arguments=("--max-message-mebibytes", "1"))
    yield ("--server", running.address)
    running.close()


@pytest.fixture(params=["services", "here"])
def model(request):
    """What runs the model: services, or the process of the command."""
    if request.param == "here":
        return ("--bundle", TOY_BUNDLE)
    return request.getfixturevalue("server")


@pytest.mark.parametrize("how", ["itself", "link", "folder", "json", "url"])
def test_the_source_is_never_written_over(model, tmp_path, how):
    source = write_video(tmp_path / "a.mp4", frames=3)
    named, output = source, source
    if how == "link":
        output = tmp_path / "b.mp4"
        output.symlink_to(source)
    elif how == "folder":
        (tmp_path / "pictures").mkdir()
        source = tmp_path / "pictures/a.png"
        source.write_bytes(encoded())
        named = output = tmp_path / "pictures"
    elif how == "json":
        named = source = output = source.rename(tmp_path / "a.json")
    elif how == "url":
        named = f"file://{source}"
    before = source.read_bytes()
    finished = tandem("detect", named, *model, "--output", output)
    assert finished.returncode == 1
    assert "would be lost: name another file" in finished.stderr
    assert source.read_bytes() == before


def test_no_command_writes_over_its_source(server, tmp_path):
    clip = write_video(tmp_path / "v.mp4")
    before = clip.read_bytes()
    finished = tandem("bench", *server, "--source", clip, "--trace", clip, "--frames", 2)
    assert (finished.returncode, clip.read_bytes()) == (1, before)
    assert "would be lost" in finished.stderr


def test_an_evaluation_does_not_write_over_its_annotations(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(height=48, width=64))
    annotations = tmp_path / "results.json"
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 48, "width": 64}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [1, 1, 9, 9],
                "area": 81,
                "iscrowd": 0,
            }
        ],
    }
    annotations.write_text(json.dumps(content))
    named = ("--images", tmp_path, "--annotations", annotations, "--output", tmp_path)
    finished = tandem("evaluate", *named, "--bundle", TOY_BUNDLE)
    assert finished.returncode == 1
    assert "results.json itself, which would be lost" in finished.stderr
    assert json.loads(annotations.read_text()) == content


# What a signal does is the same whatever is written, and each signal ends the command the same way.
@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGINT, "out.mp4"),
        (signal.SIGTERM, "out.mkv"),
        (signal.SIGHUP, "out.jsonl"),
        (signal.SIGKILL, "out.mp4"),
        (signal.SIGKILL, "out.jsonl"),
    ],
)
def test_who_interrupts_finds_a_whole_file(server, tmp_path, number, name):
    output = tmp_path / name
    output.write_text("of yesterday")
    script = [step for seed in range(8) for step in (jpeg(seed), 0.05)] * 200
    with camera(script) as one, started("detect", one.url, *server, "--json", "-o", output) as run:
        for _ in range(5):
            assert run.stdout.readline()
        run.send_signal(number)
        _, errors = run.communicate(timeout=120)
        assert errors == ""
    if number == signal.SIGKILL:
        assert run.returncode == -signal.SIGKILL
        assert output.read_text() == "of yesterday"
        return
    assert run.returncode == 128 + number
    assert list(tmp_path.iterdir()) == [output]
    if name == "out.jsonl":
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert [line["frame_id"] for line in lines] == list(range(len(lines)))
        assert len(lines) >= 5
    else:
        assert len(read_video(output)[0]) >= 5


@pytest.mark.alone
def test_who_interrupts_a_mute_camera_does_not_wait(server, tmp_path):
    script = [jpeg(0), 0.1, jpeg(1), 0.1, jpeg(2), 0.1, "mute"]
    with camera(script) as one, started("detect", one.url, *server, "--json") as run:
        for _ in range(3):
            assert run.stdout.readline()
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=LESS_THAN_SILENCE_SECONDS)
        assert (run.returncode, errors) == (130, "")


@pytest.mark.alone
def test_who_interrupts_while_connecting_does_not_wait(server):
    with camera(["mute"]) as one, started("detect", one.url, *server) as run:
        with one.connected:
            assert one.connected.wait_for(lambda: one.connections, 60)
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=LESS_THAN_SILENCE_SECONDS)
        assert run.returncode == 128 + signal.SIGTERM


def test_a_camera_that_does_not_come_back_is_a_failure(server, tmp_path):
    script = [step for seed in range(15) for step in (jpeg(seed), 0.2)]
    output = tmp_path / "out.mp4"
    with camera(script, []) as one:
        finished = tandem("detect", one.url, *server, "--reconnect-seconds", 1, "-o", output)
    assert (finished.returncode, finished.stdout) == (1, "")
    *told, ended = finished.stderr.splitlines()
    assert "is lost: it hung up; trying again in 0.5 s" in told[0]
    assert ended.endswith("is lost: it hung up, and did not come back within 1 s")
    assert "geheim" not in finished.stderr
    assert "secret1" not in finished.stderr
    # What was seen is there, as long as it took: at a usual rate it would last half a second.
    with av.open(str(output)) as container:
        assert 1.2 < container.duration / av.time_base < 60


def test_one_picture_that_is_too_large_does_not_cost_the_others(server, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(12):
        (folder / f"{index:02}.jpg").write_bytes(encoded(".jpg", seed=index))
    noise = np.random.default_rng(0).integers(0, 255, (800, 800, 3), np.uint8)
    for name in ("03.jpg", "09.jpg"):
        (folder / name).write_bytes(encode_png(noise).data)
    (folder / "05.jpg").unlink()
    (folder / "05.jpg").symlink_to(tmp_path / "missing")
    (folder / "00.jpg").rename(folder / "00.bmp")
    (folder / "00.bmp").write_bytes(b"nothing")
    finished = tandem("detect", folder, *server, "--json", "-o", tmp_path / "out")
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [line["frame_id"] for line in lines] == list(range(12))
    failed = {line["name"]: line["error"]["message"] for line in lines if line["error"]}
    assert sorted(failed) == ["00.bmp", "03.jpg", "05.jpg", "09.jpg"]
    assert "more than the 1.0 MiB that the server takes" in failed["03.jpg"]
    assert finished.returncode == 1
    assert "4 of 12 frames could not be served; the first is 00.bmp: " in finished.stderr
    assert len(list((tmp_path / "out").iterdir())) == 8


def test_pictures_that_cannot_be_read_do_not_cost_the_others(model, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(6):
        (folder / f"{index}.jpg").write_bytes(encoded(".jpg", seed=index))
    (folder / "0.jpg").write_bytes(b"nothing")
    (folder / "2.jpg").write_bytes(encoded(".jpg", seed=2)[:200])
    (folder / "4.jpg").unlink()
    (folder / "4.jpg").symlink_to(tmp_path / "missing")
    finished = tandem("detect", folder, *model, "--json", "-o", tmp_path / "out")
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [line["frame_id"] for line in lines] == list(range(6))
    told = [line["error"] for line in lines]
    assert [error and error["code"] for error in told] == [
        *("INVALID_ARGUMENT", None, "INVALID_ARGUMENT", None, "INVALID_ARGUMENT", None)
    ]
    assert "neither JPEG nor PNG" in told[0]["message"]
    assert "cannot be read: No such file or directory" in told[4]["message"]
    assert finished.returncode == 1
    assert "3 of 6 frames could not be served; the first is 0.jpg: " in finished.stderr
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("long") / "v.mp4", frames=3000)


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGINT, "out.mp4"), (signal.SIGHUP, "out.jsonl")]
)
def test_who_interrupts_a_long_video_finds_a_whole_file(model, long_video, tmp_path, number, name):
    output = tmp_path / "out" / name
    arguments = ("detect", long_video, *model, "--transcode", "jpeg", "--json", "-o", output)
    with started(*arguments) as run:
        for _ in range(5):
            assert run.stdout.readline()
        run.send_signal(number)
        _, errors = run.communicate(timeout=120)
        assert (run.returncode, errors) == (128 + number, "")
    assert list(output.parent.iterdir()) == [output]
    if name == "out.jsonl":
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        assert [line["frame_id"] for line in lines] == list(range(len(lines)))
        assert 5 <= len(lines) < 3000
    else:
        assert 5 <= len(read_video(output)[0]) < 3000


def test_a_browsers_video_keeps_its_length(model, tmp_path):
    """It states neither its frame rate nor its length."""
    times = [index / 15 + (0.02 if index % 3 else 0.0) for index in range(60)]
    video = write_variable(tmp_path / "v.webm", "libvpx", times)
    for output in (tmp_path / "out.mp4", tmp_path / "out.jsonl"):
        assert tandem("detect", video, *model, "-o", output).returncode == 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        written = [frame.time for frame in container.decode(video=0)]
        assert container.duration / av.time_base == pytest.approx(4.0, abs=0.05)
    assert written == pytest.approx(times, abs=0.001)
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["time_seconds"] for line in lines] == pytest.approx(times, abs=0.001)


@pytest.mark.parametrize(
    "arguments",
    [
        ("detect", "rtsp://admin:geheim@127.0.0.1:1/live"),
        ("detect", "rtsp:/admin:geheim@127.0.0.1:1/live"),
        ("detect", "x://admin:ge@hei/geheim@127.0.0.1:1/live?password=geheim"),
        ("detect", "a.png", "rtsp://admin:geheim@127.0.0.1/live"),
        ("detect", "a.png", "--server", "http://admin:geheim@127.0.0.1"),
        ("bench", "--source", "http://admin:geheim@127.0.0.1:1/live?pwd=geheim"),
        ("model", "calibrate", ".", "--images", "http://admin:geheim@127.0.0.1:1/live"),
    ],
)
def test_no_password_is_printed(arguments):
    finished = tandem(*arguments)
    assert finished.returncode in (1, 2)
    assert "geheim" not in finished.stdout + finished.stderr
    (line,) = finished.stderr.splitlines()
    assert line.startswith("tandem: ")


def test_names_that_the_terminal_cannot_write(model, tmp_path):
    path = os.fsencode(tmp_path) + "/\u72d7\udcff.png".encode("utf-8", "surrogateescape")
    Path(os.fsdecode(path)).write_bytes(encoded())
    finished = tandem("detect", os.fsdecode(path), *model, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.startswith("\\u72d7\\ufffd.png: ")


def test_a_pipe_is_written_to_as_one(model, tmp_path):
    pipe = tmp_path / "out.jsonl"
    os.mkfifo(pipe)
    (tmp_path / "a.png").write_bytes(encoded())
    with started("detect", tmp_path / "a.png", *model, "-o", pipe) as run:
        assert json.loads(pipe.read_text())["name"] == "a.png"
        run.communicate(timeout=120)
        assert run.returncode == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert cv2.imread(str(tmp_path / "a.png")) is not None
    assert wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
