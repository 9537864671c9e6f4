"""Every example does what it says. One whose tool is missing here is skipped, and says so."""

import base64
import contextlib
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.domain.address import DEFAULT_PORT
from common.security.tokens import new_token, token_digest
from tandem.shipped import shipped_bundle, shipped_clip
from tests.harness import ROOT, TOY_BUNDLE, Cluster, clean_environment
from tests.integration.evaluation.clip_set import write_clip_set
from tests.issued import files_of, folder_with, secured_by
from tests.network_cameras import rtsp_camera
from tests.streams import picture
from tests.unit.tandem.factories import encoded, write_camera_video, write_video
from tests.waiting import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "examples"
QUIET = {"NODE_NO_WARNINGS": "1"}


def needs(*tools):
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not on this machine: {', '.join(missing)}")


def environment(**more):
    """With `tandem` on the path, and in a Python that knows the package."""
    path = os.pathsep.join((sysconfig.get_path("scripts"), os.environ["PATH"]))
    return {**clean_environment(), "PATH": path, "PYTHONPATH": str(ROOT), **more}


def run(*command, cwd=EXAMPLES, **more):
    ran = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


def python(script, *arguments, **more):
    return run(sys.executable, EXAMPLES / script, *arguments, **more)


@pytest.fixture
def pictures(tmp_path):
    """A folder of JPEGs."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(5):
        (folder / f"{seed}.jpg").write_bytes(encoded(".jpg", seed=seed))
    return folder


def first_frame(path):
    video = cv2.VideoCapture(str(shipped_clip()))
    cv2.imwrite(str(path), video.read()[1])
    video.release()
    return path


def test_every_example_is_listed_and_short():
    listed = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text()))
    suffixes = {".py", ".sh", ".js", ".cc"}
    there = {
        str(path.relative_to(EXAMPLES))
        for path in EXAMPLES.rglob("*")
        if path.suffix in suffixes and not {"node_modules", "build"} & set(path.parts)
    }
    assert listed == there
    assert len(there) == 14
    for name in there:
        assert len((EXAMPLES / name).read_text().splitlines()) <= 85, name


def test_picture(tmp_path):
    picture = first_frame(tmp_path / "frame.png")
    told = python("picture.py", shipped_bundle(), picture, tmp_path / "boxes.png")
    assert re.search(r"^airplane \d+%: x \d+ to \d+, y \d+ to \d+$", told, re.MULTILINE)
    drawn, plain = cv2.imread(str(tmp_path / "boxes.png")), cv2.imread(str(picture))
    assert drawn.shape == plain.shape
    assert (drawn != plain).any()


def test_video():
    told = python("video.py", shipped_bundle(), shipped_clip()).splitlines()
    assert re.match(r"frame 0: .*1 airplane", told[0])
    assert len(told) > 5


def test_rtsp(cluster):
    with rtsp_camera(60) as camera:
        told = python("rtsp.py", cluster.address, camera.url, 12)
    numbers = [int(number) for number in re.findall(r"^frame (\d+): ", told, re.MULTILINE)]
    assert numbers == list(range(12))


def test_async_client(cluster, pictures, tmp_path):
    other = shutil.copytree(pictures, tmp_path / "other")
    told = python("async_client.py", cluster.address, pictures, other).splitlines()
    assert told[0] == "4 stages are up"
    assert sum(line.endswith(" objects, by full") for line in told) == 5
    assert sum(line.endswith(" objects, by backbone") for line in told) == 5


@pytest.fixture(scope="module")
def node_client(tmp_path_factory):
    """The Node.js client, its packages installed."""
    folder = shutil.copytree(EXAMPLES / "node", tmp_path_factory.mktemp("node") / "client")
    installed = subprocess.run(
        ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install the client's packages: {installed.stderr[-300:]}")
    return folder / "detect.js"


@needs("node", "npm")
@pytest.mark.parametrize(("name", "codec"), [("v.h264", "libx264"), ("v.h265", "libx265")])
def test_node_sends_a_files_access_units(cluster, node_client, tmp_path, name, codec):
    more = {"format": "hevc"} if codec == "libx265" else {"options": {"x264-params": "slices=3"}}
    path = write_camera_video(tmp_path / name, codec=codec, height=96, width=128, **more)
    program = node_client.with_name("video.js")
    told = run("node", program, cluster.address, ROOT / "protos", path, **QUIET)
    responses = [json.loads(line) for line in told.splitlines()]
    assert [each["frameId"] for each in responses] == list(range(12))
    assert {each["result"] for each in responses} == {"detections"}
    assert {each["placement"] for each in responses} == {"PLACEMENT_WORKSTATION"}
    sent = sum(int(each["timing"]["backbone"]["requestBytes"]) for each in responses)
    assert sent == path.stat().st_size


@needs("node", "npm")
def test_node_gets_an_ordered_answer_to_each_of_twenty_frames(cluster, node_client, tmp_path):
    for number in range(20):
        (tmp_path / f"{number:03}.jpg").write_bytes(encoded(".jpg", seed=number))
    told = run("node", node_client, cluster.address, ROOT / "protos", tmp_path, **QUIET)
    responses = [json.loads(line) for line in told.splitlines()]
    assert [each["frameId"] for each in responses] == list(range(20))
    assert {each["result"] for each in responses} == {"detections"}
    assert {each["placement"] for each in responses} == {"PLACEMENT_BACKBONE"}
    found = [each["detections"]["detections"] for each in responses]
    assert [len(each) for each in found] == [5] * 20
    assert len({json.dumps(each) for each in found}) == 20


@needs("node", "npm")
def test_node_by_a_certificate_and_by_a_token(node_client, pictures, tmp_path):
    folder = folder_with(tmp_path / "certificates", "client/client")
    token = new_token()
    tokens = tmp_path / "tokens.yaml"
    tokens.write_text(f"tokens: [{{identity: client/camera, sha256: {token_digest(token)}}}]")
    with_tokens = ("--tokens", str(tokens), "--token-port", "0")
    running = Cluster(secured_by=secured_by(folder), orchestrator_arguments=with_tokens)
    names = ("TANDEM_TLS_CA", "TANDEM_TLS_CERTIFICATE", "TANDEM_TLS_KEY")
    own = dict(zip(names, map(str, files_of(folder, "client/client")), strict=True))
    own_token = {names[0]: own[names[0]], "TANDEM_TOKEN": token}
    try:
        for address, secrets in (
            (running.address, own),
            (running.orchestrator.announcement["token_address"], own_token),
        ):
            told = run("node", node_client, address, ROOT / "protos", pictures, **QUIET, **secrets)
            answers = [json.loads(line) for line in told.splitlines()]
            assert [each["result"] for each in answers] == ["detections"] * 5
        command = ["node", node_client, running.address, ROOT / "protos", pictures]
        refused = subprocess.run(
            command, env=environment(**QUIET, TANDEM_TLS_CA=own[names[0]]), capture_output=True
        )
        assert (refused.returncode, refused.stdout) == (1, b"")
    finally:
        running.close()


GSTREAMER = """
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
assert Gst.ElementFactory.find("jpegenc") and Gst.ElementFactory.find("appsink")
"""


@pytest.fixture(scope="module")
def gstreamer(tmp_path_factory):
    """Environment in which this Python has the system's PyGObject, if that is there."""
    system = Path("/usr/lib/python3/dist-packages/gi")
    folder = tmp_path_factory.mktemp("gi")
    if system.is_dir():
        (folder / "gi").symlink_to(system)
    paths = {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))}
    tried = subprocess.run([sys.executable, "-c", GSTREAMER], env=environment(**paths))
    if tried.returncode != 0:
        pytest.skip("PyGObject or GStreamer's plugins are not on this machine")
    return paths


def test_gstreamer(cluster, gstreamer):
    size = "video/x-raw,width=321,height=240"
    script = "gstreamer/appsink.py"
    told = python(script, cluster.address, f"videotestsrc num-buffers=12 ! {size}", **gstreamer)
    # Not a live source: it waits, and nothing is dropped.
    assert re.findall(r"^frame (\d+): person", told, re.MULTILINE) == list(map(str, range(12)))
    camera = f"videotestsrc is-live=true num-buffers=12 ! {size}"
    told = python(script, cluster.address, camera, **gstreamer)
    lines = told.splitlines()
    assert 1 <= len(lines) <= 12
    assert all(re.search(": (person|dropped)", line) for line in lines)
    command = [sys.executable, EXAMPLES / script, cluster.address]
    for beginning, words in (("nothing", "no element"), ("filesrc location=/nowhere", "not found")):
        failed = subprocess.run(
            [*command, f"{beginning} ! decodebin"],
            env=environment(**gstreamer),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert failed.returncode == 1
        assert words in failed.stderr
        assert "Traceback" not in failed.stderr


def image_of_ros(pixels, encoding, frame_id, padding=0, **changes):
    """An image as its topic has it, each row padded with as many bytes."""
    rows = pixels.reshape(pixels.shape[0], -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    told = {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "encoding": encoding,
        "step": padded.shape[1],
        "data": base64.b64encode(padded.tobytes()).decode(),
        "frame_id": frame_id,
        "usable": True,
    }
    return {**told, **changes}


def test_ros2(cluster, tmp_path):
    """By stand-ins for ROS 2, see tests/ros2."""
    rgb = picture(3)
    images = [
        image_of_ros(rgb, "rgb8", "front"),
        image_of_ros(rgb[..., ::-1], "bgr8", "back", padding=5),
        image_of_ros(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), "mono8", "grey", padding=1),
        image_of_ros(rgb, "rgba16", "left out", usable=False),
        image_of_ros(rgb, "rgb8", "left out", usable=False, height=3),
        image_of_ros(rgb, "rgb8", "front again"),
    ]
    path = tmp_path / "images.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in images))
    told = python(
        *("ros2/detector.py", "--ros-args", "-p", f"server:={cluster.address}"),
        PYTHONPATH=os.pathsep.join((str(ROOT), str(ROOT / "tests/ros2"))),
        ROS2_IMAGES=str(path),
    )
    *published, warnings = map(json.loads, told.splitlines())
    assert [each["header"]["frame_id"] for each in published] == [
        *("front", "back", "grey", "front again"),
    ]
    front, back, _, again = published
    assert front["detections"]
    # The same pixels, once in another order and with padding: the same objects.
    for other in (back, again):
        assert [_boxes(each) for each in front["detections"]] == [
            pytest.approx(_boxes(each), abs=1e-3) for each in other["detections"]
        ]
    for each in front["detections"]:
        assert each["header"]["frame_id"] == "front"
        (what,) = each["results"]
        assert what["hypothesis"]["class_id"] in ("person", "car")
        assert 0.7 <= what["hypothesis"]["score"] <= 1
    assert [each.split(":")[0] for each in warnings] == ["an image is left out"] * 2
    assert "rgba16" in warnings[0]


def _boxes(detection):
    box = detection["bbox"]
    return [*box["center"]["position"].values(), box["size_x"], box["size_y"]]


def cpp_tools():
    if shutil.which("pkg-config") is None:
        return False
    return subprocess.run(["pkg-config", "--exists", "grpc++", "protobuf"]).returncode == 0


@needs("make", "g++", "protoc", "grpc_cpp_plugin", "pkg-config")
@pytest.mark.timeout(300)
def test_cpp(cluster, pictures, tmp_path):
    if not cpp_tools():
        pytest.skip("gRPC's C++ headers are not on this machine")
    rpc = importlib.util.find_spec("google.rpc").submodule_search_locations[0]
    run("make", f"BUILD={tmp_path}", f"GOOGLEAPIS={Path(rpc).parents[1]}", cwd=EXAMPLES / "cpp")
    (pictures / "2.jpg").write_bytes(b"nothing")
    named = sorted(pictures.iterdir())
    told = run(tmp_path / "detect", cluster.address, *named).splitlines()
    assert [line.partition(":")[0] for line in told] == [str(path) for path in named]
    assert "neither JPEG nor PNG" in told[2]


def test_own_weights(tmp_path):
    weights = pytest.importorskip("tests.weights_files", reason="torch is not on this machine")
    small = weights.SMALL
    path = weights.save_torch({"model": weights.small_state(classes=91)}, tmp_path)
    (tmp_path / "a.jpg").write_bytes(encoded(".jpg"))
    options = ("--heads", small.heads, "--input-size", "96x128")
    told = run(EXAMPLES / "own_weights.sh", path, tmp_path / "bundle", tmp_path / "a.jpg", *options)
    assert "largest difference" in told
    assert "calibrated for q6, q5, q4, q3, q2 on 1 frames" in re.sub(r"\s+", " ", told)
    assert re.search(r"^1 frames, [1-5] objects", told, re.MULTILINE)


def test_evaluate(tmp_path):
    clip = write_clip_set(tmp_path / "set")
    output = tmp_path / "output"
    told = run(EXAMPLES / "evaluate.sh", shipped_bundle(), clip.images, clip.annotations, output)
    assert "24 frames" in told
    record = json.loads((output / "record.json").read_text())
    assert record["AP50"] > 0.7
    assert (record["settings"]["placement"], record["settings"]["codec"]) == ("backbone", "int8")


@contextlib.contextmanager
def machine(node, bundle, **hosts):
    """One of the two machines; ended as an operator does."""
    command = [str(EXAMPLES / "two_machines.sh"), node, str(bundle)]
    process = subprocess.Popen(
        command,
        env=environment(PYTHON=sys.executable, **hosts),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_free(host):
    with socket.socket() as probe:
        return probe.connect_ex((host, DEFAULT_PORT)) != 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a whole network of loopback")
def test_two_machines(tmp_path):
    edge, workstation = (f"127.{random.randint(2, 250)}.{number}.1" for number in (1, 2))
    assert is_free(edge)
    made = tmp_path / "made"
    named = [
        f"--host={node}={host}" for node, host in (("edge", edge), ("workstation", workstation))
    ]
    run("tandem", "certificates", "init", made, *named)
    hosts = {"EDGE": edge, "WORKSTATION": workstation}
    there = {**hosts, "CERTIFICATES": str(made / "workstation")}
    own = {**hosts, "CERTIFICATES": str(made / "edge")}

    def known_as(name):
        return {
            "TANDEM_TLS_CA": str(made / name / "peers-ca.crt"),
            "TANDEM_TLS_CERTIFICATE": str(made / name / f"{name}.crt"),
            "TANDEM_TLS_KEY": str(made / name / f"{name}.key"),
        }

    (tmp_path / "a.jpg").write_bytes(encoded(".jpg"))
    with machine("workstation", TOY_BUNDLE, **there), machine("edge", TOY_BUNDLE, **own) as here:

        def is_up():
            asked = ["tandem", "status", "--server", edge, "--json"]
            operator = environment(**known_as("operator"))
            ran = subprocess.run(asked, env=operator, capture_output=True, text=True)
            stages = json.loads(ran.stdout)["stages"] if ran.returncode == 0 else []
            return [each["healthy"] for each in stages] == [True] * 4

        assert wait_until(is_up, 120)
        wanted = ("--placement", "backbone", "--json")
        picture = ("tandem", "detect", tmp_path / "a.jpg", "--server", edge)
        told = run(*picture, *wanted, **known_as("client"))
        assert json.loads(told)["placement"] == "backbone"
        here.send_signal(signal.SIGTERM)
        here.wait(PATIENCE_SECONDS)
        # Nobody is left behind.
        assert wait_until(lambda: is_free(edge))


@contextlib.contextmanager
def prometheus(folder, metrics):
    """Prometheus, which scrapes an orchestrator's metrics each second; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": "orchestrator", "static_configs": [{"targets": [metrics]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@needs("prometheus")
def test_prometheus_query(cluster, tmp_path):
    metrics = cluster.orchestrator.metrics_url.removeprefix("http://").partition("/")[0]
    video = write_video(tmp_path / "v.mp4", frames=20)
    with prometheus(tmp_path, metrics) as address:

        def answer():
            # Counters have to grow between two scrapes.
            run(
                "tandem",
                "detect",
                video,
                "--transcode",
                "jpeg",
                "--server",
                cluster.address,
                "--placement",
                "full",
            )
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/-/ready"):
                return python("prometheus_query.py", f"http://{address}")
            return ""

        assert wait_until(lambda: re.search(r"^frames a second: placement full: \d", answer()), 120)
        assert re.search(r"95 % are answered within seconds: placement full: \d+\.", answer())


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("picture.py", ("nowhere", "A.PNG", "b.png"), "no bundle at nowhere"),
        ("video.py", ("nowhere", "v.mp4"), "no bundle at nowhere"),
        ("video.py", (shipped_bundle(), "nowhere.mp4"), "nowhere.mp4 is no video"),
        ("async_client.py", ("127.0.0.1:1",), "no Tandem orchestrator answers at 127.0.0.1:1"),
        ("prometheus_query.py", ("http://127.0.0.1:1",), "does not answer"),
    ],
)
def test_a_failure_is_a_sentence(tmp_path, script, arguments, sentence):
    (tmp_path / "a.png").write_bytes(encoded())
    named = [str(tmp_path / "a.png") if each == "A.PNG" else each for each in arguments]
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *named],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 1
    assert sentence in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("program", "script"),
    [
        *((sys.executable, f"{name}.py") for name in ("picture", "video", "async_client")),
        *((sys.executable, f"{name}.py") for name in ("rtsp", "prometheus_query")),
        *(("bash", f"{name}.sh") for name in ("own_weights", "evaluate", "two_machines")),
    ],
)
def test_without_arguments_an_example_tells_which_it_takes(program, script):
    ran = subprocess.run(
        [program, str(EXAMPLES / script)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.returncode in (1, 2)
    assert re.search(rf"(python|usage:) {re.escape(script)} \S", ran.stderr)
    assert "Traceback" not in ran.stderr
