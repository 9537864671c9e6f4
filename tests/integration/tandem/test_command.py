import json
import socket
import subprocess
import time
from contextlib import closing

import av
import cv2
import numpy as np
import pytest

from tandem.cli.app import run_command
from tandem.cli.running import exit_code_of
from tandem.sources import open_source
from tests.harness import ROOT, TOY_BUNDLE, clean_environment
from tests.integration.tandem.commands import (
    TANDEM,
    are_gone,
    descendants,
    json_of,
    started,
    tandem,
)
from tests.unit.tandem.factories import (
    encoded,
    read_video,
    write_camera_video,
    write_video,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

# Frames that change their route would send a frame of video together with the earlier ones of
# its group.
ONE_ROUTE = ("--placement", "workstation")
# The toy model is random: low enough for it to see something.
SEES = ("--threshold", 0.5)


@pytest.fixture(scope="module")
def server(cluster):
    return ("--server", cluster.address)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A picture, a video, and a folder of pictures one of which is damaged."""
    path = tmp_path_factory.mktemp("sources")
    (path / "a.png").write_bytes(encoded(height=360, width=480))
    write_camera_video(path / "v.mp4", frames=12, height=96, width=128)
    write_camera_video(path / "long.mp4", frames=600, height=96, width=128)
    (path / "pictures").mkdir()
    for index in range(4):
        (path / f"pictures/{index}.jpg").write_bytes(encoded(".jpg", seed=index))
    (path / "pictures/2.jpg").write_bytes(b"\xff\xd8\xff damaged")
    return path


def lines_of(finished):
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_a_video_gives_a_line_a_frame_in_order(server, folder):
    finished = tandem("detect", folder / "v.mp4", *server, *SEES, "--json")
    lines = lines_of(finished)
    assert finished.stderr == ""
    assert [line["frame_id"] for line in lines] == list(range(12))
    contract = {"frame_id", "placement", "detections", "error", "dropped", "timing"}
    assert all(contract <= set(line) for line in lines)
    found = lines[0]["detections"][0]
    assert set(found) == {"category_id", "category_name", "score", "box"}
    assert len(found["box"]) == 4
    assert lines[0]["timing"]["backbone"]["execute_seconds"] > 0


@pytest.mark.parametrize("placement", ["full", "backbone", "transformer", "workstation"])
def test_the_placement_asked_for_serves_with_the_same_boxes(server, folder, placement):
    def run(*options):
        finished = tandem("detect", folder / "a.png", *server, *SEES, *options, "--json")
        (line,) = lines_of(finished)
        return line

    line = run("--placement", placement, "--codec", "fp32")
    assert line["placement"] == placement
    assert line["detections"] == run("--placement", "full", "--codec", "fp32")["detections"]


def test_people_read_sentences(server, folder):
    finished = tandem("detect", folder / "a.png", *server, *SEES, "--max-detections", 1)
    first, summary = finished.stdout.splitlines()
    assert first.startswith("a.png: ")
    assert "% at " in first
    assert summary.startswith("1 frames, 1 objects, ")


def test_a_picture_is_written(server, folder, tmp_path):
    out = tmp_path / "boxes.png"
    finished = tandem("detect", folder / "a.png", *server, *SEES, "--output", out)
    assert f"written to {out}" in finished.stdout
    assert cv2.imread(str(out)).shape == (360, 480, 3)


def test_a_picture_is_written_though_this_locale_has_no_letter_of_its_name(tmp_path):
    (tmp_path / "\N{LATIN SMALL LETTER A WITH DIAERESIS}.png").write_bytes(encoded())
    out = tmp_path / "out"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    finished = tandem("detect", tmp_path, "--bundle", TOY_BUNDLE, "--output", out, **plain)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert [path.name for path in out.iterdir()] == ["frame-000000.png"]


def test_a_video_is_written(server, folder, tmp_path):
    out = tmp_path / "boxes.mp4"
    assert tandem("detect", folder / "v.mp4", *server, "-o", out).returncode == 0
    frames, rate, codec = read_video(out)
    assert (len(frames), rate, codec) == (12, 10.0, "h264")


def test_a_videos_access_units_are_sent_as_they_are(server, folder):
    lines = lines_of(tandem("detect", folder / "v.mp4", *server, *ONE_ROUTE, "--json"))
    sent = [line["timing"]["backbone"]["request_bytes"] for line in lines]
    with av.open(str(folder / "v.mp4")) as video:
        sizes = [packet.size for packet in video.demux() if packet.size]
    # Key frames have their parameter sets in front.
    assert all(0 <= one - other < 100 for one, other in zip(sent, sizes, strict=True))
    assert sum(one - other for one, other in zip(sent, sizes, strict=True)) < 300


@pytest.mark.parametrize("options", [("--transcode", "jpeg"), ("--quality", 90)])
def test_a_videos_frames_are_sent_as_jpeg_if_that_is_asked_for(server, folder, options):
    finished = tandem("detect", folder / "v.mp4", *server, *SEES, *options, "--json")
    with closing(open_source(str(folder / "v.mp4"), 90)) as source:
        sizes = [len(frame.image.data) for frame in source]
    lines = lines_of(finished)
    assert [line["timing"]["backbone"]["request_bytes"] for line in lines] == sizes


def test_video_with_b_frames_is_sent_as_jpeg_with_a_word(server, tmp_path):
    path = write_video(tmp_path / "b.mp4", frames=6, height=96, width=128)
    finished = tandem("detect", path, *server, "--json")
    assert len(lines_of(finished)) == 6
    assert finished.stderr.startswith("tandem: b.mp4: its frames are sent as JPEG: the video has B")


def test_what_is_drawn_on_is_what_was_sent(server, folder, tmp_path):
    out = tmp_path / "out.mp4"
    finished = tandem("detect", folder / "v.mp4", *server, "--threshold", 1, "-o", out)
    assert finished.returncode == 0, finished.stderr
    sent, _, _ = read_video(folder / "v.mp4")
    shown, _, _ = read_video(out)
    # Small ones are enlarged to be drawn on.
    reduced = [cv2.resize(each, (128, 96), interpolation=cv2.INTER_AREA) for each in shown]
    for number, drawn in enumerate(reduced):
        differences = [np.abs(drawn.astype(int) - each).mean() for each in sent]
        assert np.argmin(differences) == number
    assert len(shown) == len(sent)


def test_only_as_many_frames_as_asked_for(server, folder):
    assert len(lines_of(tandem("detect", folder / "v.mp4", *server, "--limit", 5, "--json"))) == 5


def test_a_live_file_plays_at_its_own_speed(server, folder):
    begun = time.monotonic()
    lines = lines_of(tandem("detect", folder / "v.mp4", *server, "--live", "--json"))
    assert len(lines) == 12
    assert time.monotonic() - begun > 11 / 10


def test_a_damaged_picture_is_told_and_the_rest_is_served(server, folder, tmp_path):
    finished = tandem(
        *("detect", folder / "pictures", *server, "--json", "--output", tmp_path / "out")
    )
    assert finished.returncode == 1
    assert finished.stderr.startswith(
        "tandem: 1 of 4 frames could not be served; the first is 2.jpg: "
    )
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [bool(line["error"]) for line in lines] == [False, False, True, False]
    assert lines[2]["error"]["code"] == "INVALID_ARGUMENT"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "0.jpg",
        "1.jpg",
        "3.jpg",
    ]


def test_without_a_server_this_process_detects_what_nodes_do(server, folder):
    named = ("detect", folder / "a.png", *SEES, "--json")
    here = json_of(tandem(*named, "--bundle", TOY_BUNDLE))
    nodes = json_of(tandem(*named, *server, "--placement", "full", "--codec", "fp32"))
    assert set(here) == set(nodes)
    assert here["detections"]
    assert here["placement"] is None
    assert nodes["placement"] == "full"
    assert here["timing"]["backbone"]["node"] == "local"
    for key in ("category_id", "category_name"):
        assert [one[key] for one in here["detections"]] == [one[key] for one in nodes["detections"]]
    for one, other in zip(here["detections"], nodes["detections"], strict=True):
        assert one["box"] == pytest.approx(other["box"], abs=1e-3)


def test_without_a_server_no_process_is_started(folder):
    with started("detect", folder / "v.mp4", "--bundle", TOY_BUNDLE, "--json") as process:
        assert process.stdout.readline()
        assert descendants(process.pid) == []
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")


def test_a_placement_without_a_server_takes_local_nodes_that_are_gone_afterwards(folder):
    asked = ("--placement", "auto", "--json")
    with started("detect", folder / "a.png", "--bundle", TOY_BUNDLE, *asked) as process:
        assert wait_until(lambda: len(descendants(process.pid)) >= 5)
        children = [child.pid for child in descendants(process.pid)]
        out, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        assert json.loads(out)["frame_id"] == 0
        assert are_gone(children)


@pytest.mark.parametrize("arguments", [("status", "--watch"), ("detect", "VIDEO", "--live")])
def test_ctrl_c_is_quiet(server, folder, arguments):
    # It plays for a minute.
    named = [folder / "long.mp4" if part == "VIDEO" else part for part in arguments]
    with started(*named, *server, "--json") as process:
        assert process.stdout.readline()
        process.send_signal(2)
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (130, "")


def test_a_reader_that_has_seen_enough_is_no_failure_to_shout_about(server):
    command = [*TANDEM, "status", "--watch", "--json", *server]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


def test_bench_sends_a_videos_access_units_over_and_over(server, folder):
    counted = ("--frames", 30, "--warm-up", 2, "--clients", 2)
    source = (folder / "v.mp4", *ONE_ROUTE)
    (row,) = json_of(tandem("bench", *server, *counted, "--video", "--source", *source, "--json"))
    assert row["frames"] == 30
    sent = [line["timing"] for line in lines_of(tandem("detect", *source, *server, "--json"))]
    sizes = [each["backbone"]["request_bytes"] for each in sent]
    # Each client begins with the key frame, and sends all 12 in turn.
    assert row["bytes_per_frame"] == pytest.approx(sum(sizes) / len(sizes), rel=0.25)


def test_bench_of_what_cannot_be_passed_through_says_why(folder, tmp_path):
    path = write_video(tmp_path / "b.mp4", frames=6)
    told = tandem("bench", "--video", "--source", path, "--bundle", TOY_BUNDLE)
    assert (told.returncode, told.stdout) == (1, "")
    assert "b.mp4: its frames are sent as JPEG: the video has B frames" in told.stderr
    told = tandem("bench", "--video", "--source", folder / "a.png", "--bundle", TOY_BUNDLE)
    assert told.stderr == "tandem: a.png is no H.264 or H.265 video\n"


def test_bench_reports_what_the_contract_names(server):
    rows = json_of(
        tandem("bench", *server, "--frames", 20, "--warm-up", 2, "--clients", 2, "--json")
    )
    assert [row["placement"] for row in rows] == [
        "full",
        "backbone",
        "transformer",
        "workstation",
    ]
    for row in rows:
        assert row["frames"] == 20
        assert row["clients"] == 2
        assert row["fps"] > 0
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p95"] <= row["latency_ms"]["p99"]
        assert row["efficiency"] == pytest.approx(row["fps"] / row["ideal_fps"])
        assert row["simulated"] == {}
    full, backbone, transformer, workstation = (row["bytes_per_frame"] for row in rows)
    assert full == 0
    # Two clients' frames are not measured in the same order each time.
    assert transformer == pytest.approx(backbone + workstation, rel=0.05)


def test_paced_stages_are_labelled_simulated_and_take_no_settings_from_the_environment():
    command = ("bench", "--bundle", TOY_BUNDLE, "--frames", 12, "--warm-up", 4)
    options = ("--placement", "backbone", "--paced", "backbone=40", "--json")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {"TANDEM_PORT": str(taken.getsockname()[1]), "TANDEM_NONSENSE": "1"}
        (row,) = json_of(tandem(*command, *options, **settings))
    assert row["simulated"] == {"backbone": 40.0}
    assert row["stage_ms"]["backbone"]["execute"] >= 40.0
    assert row["ideal_fps"] <= 25.0
    assert row["codec"] == "fp16"


def test_model_info():
    told = json_of(tandem("model", "info", TOY_BUNDLE, "--json"))
    assert told["name"] == "toy"
    assert told["trained"] is False
    assert len(told["digest"]) == 64
    people = tandem("model", "info", TOY_BUNDLE).stdout
    assert "no: random weights" in people


def test_model_info_refuses_a_damaged_bundle(tmp_path):
    for name in ("bundle.json", "backbone.onnx", "transformer.onnx"):
        (tmp_path / name).write_bytes((TOY_BUNDLE / name).read_bytes())
    (tmp_path / "backbone.onnx").write_bytes(b"other")
    finished = tandem("model", "info", tmp_path)
    assert finished.returncode == 1
    assert "backbone.onnx has sha256" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("nonsense",), 2, "No such command 'nonsense' (see tandem --help)"),
        (("detect",), 2, "Missing argument 'SOURCE' (see tandem detect --help)"),
        (("status", "--server"), 2, "requires an argument (see tandem status --help)"),
        (("model", "deploy", "--server"), 2, "an argument (see tandem model deploy --help)"),
        (("detect", "x", "--threshold", "2"), 2, "'--threshold'"),
        (("detect", "x", "--placement", "moon"), 2, "'--placement'"),
        (("detect", "x", "--server", "h:1", "--bundle", "b"), 2, "--bundle sets up local nodes"),
        (("detect", "x", "--server", "h:1", "--device", "cuda"), 2, "--device sets up local nodes"),
        (("detect", "A.PNG", "--device", "cuda"), 1, "has no CUDAExecutionProvider"),
        (("up", "--device", "cuda"), 1, "has no CUDAExecutionProvider"),
        (("detect", "missing.mp4"), 1, "there is no file, folder or camera named missing.mp4"),
        (("detect", "pyproject.toml"), 1, "is neither a picture nor a video"),
        (("detect", "A.PNG", "--server", "127.0.0.1:1"), 1, "no Tandem orchestrator answers at"),
        (("detect", "A.PNG", "--server", "h:"), 1, "the server's address 'h:' is not host:port"),
        (("detect", "A.PNG", "--output", "x.gif"), 1, "x.gif: unknown kind of file"),
        (("detect", "A.PNG", "--bundle", "nowhere"), 1, "no bundle at nowhere"),
        (("status", "--server", "127.0.0.1:1"), 1, "no Tandem orchestrator answers at 127.0.0.1:1"),
        (("placement", "moon"), 2, "'moon'"),
        (("bench", "--placement", "x"), 2, "'--placement': 'x' is not one of 'full'"),
        (("bench", "--paced", "x=1"), 2, "'x=1' is not backbone=MS or transformer=MS"),
        (("up", "--bundle", "nowhere"), 1, "no bundle at nowhere"),
        (("model", "info", "nowhere"), 1, "no bundle at nowhere"),
    ],
)
def test_every_failure_is_one_sentence(folder, capfd, arguments, code, sentence):
    named = [str(folder / "a.png") if part == "A.PNG" else part for part in arguments]
    assert exit_code_of(lambda: run_command(named), "tandem") == code
    told = capfd.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("tandem: ")
    assert sentence in line


@pytest.mark.parametrize(
    "command",
    [(), ("up",), ("detect",), ("status",), ("placement",), ("bench",), ("model", "info")],
)
def test_help(capfd, command):
    assert exit_code_of(lambda: run_command([*command, "--help"]), "tandem") == 0
    told = capfd.readouterr()
    assert "Usage: tandem" in told.out
    assert told.err == ""
