import contextlib
import gc
import itertools
import shutil
import signal
import subprocess
import sys
import threading
import weakref
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from common.bundle import load_bundle, write_bundle
from common.domain.codec import Codec
from common.domain.errors import ConfigurationError, EngineError, InvalidInputError
from common.domain.frames import EncodedImage, PixelFormat, RawImage
from common.domain.placement import Stage
from tandem import DetectorClient, LocalDetector
from tandem.pictures import decode_picture, encode_png
from tandem.shipped import shipped_bundle, shipped_clip
from tandem.sources import open_source
from tests.harness import TOY_BUNDLE, TOY_TENSORS, Cluster
from tests.integration.test_cut_tensors import FRAMES, Whole
from tests.unit.tandem.factories import encoded, pixels
from tests.waiting import PATIENCE_SECONDS, wait_until

STAGE_THREADS = {"prepare", "frames", *(stage.value for stage in Stage)}


@pytest.fixture(scope="module")
def detector():
    with LocalDetector(TOY_BUNDLE) as running:
        yield running


def everything(detector, frames, **options):
    return list(detector.detect(frames, score_threshold=0.0, **options))


def boxes(result):
    return [vars(one.box) for one in result.detections]


def threads():
    return [each for each in threading.enumerate() if each.name in STAGE_THREADS]


def test_every_kind_of_frame_gives_the_same_boxes(detector):
    bgr = pixels()
    png = encode_png(bgr).data
    height, width = bgr.shape[:2]
    frames = [
        *(png, bytearray(png), memoryview(png), EncodedImage(png)),
        np.ascontiguousarray(bgr[..., ::-1]),
        RawImage(width, height, PixelFormat.BGR8, bgr.tobytes()),
    ]
    results = everything(detector, frames)
    assert [result.frame_id for result in results] == list(range(6))
    assert len(boxes(results[0])) == 5
    assert all(boxes(result) == boxes(results[0]) for result in results)


def test_answers_come_in_order_of_any_source(detector):
    sizes = [(40 + index, 60) for index in range(12)]
    frames = (encoded(height=height, width=width, seed=height) for height, width in sizes)
    results = everything(detector, frames)
    alone = [everything(detector, [encoded(height=h, width=w, seed=h)])[0] for h, w in sizes]
    assert [boxes(result) for result in results] == [boxes(result) for result in alone]


def test_a_frame_that_cannot_be_decoded_costs_no_other(detector):
    good = encoded()
    results = everything(detector, [good, b"\xff\xd8\xff damaged", b"", good])
    assert [isinstance(result.error, InvalidInputError) for result in results] == [
        *(False, True, True, False)
    ]
    assert boxes(results[0]) == boxes(results[3])
    # The caller may keep it: it must not keep the frame.
    assert results[1].error.__traceback__ is None


def test_thresholds_and_limits(detector):
    frame = encoded()
    scores = [one.score for one in everything(detector, [frame])[0].detections]
    assert scores == sorted(scores, reverse=True)
    (result,) = detector.detect([frame], score_threshold=scores[2])
    assert [one.score for one in result.detections] == scores[:3]
    (result,) = everything(detector, [frame], max_detections=1)
    assert [one.score for one in result.detections] == scores[:1]
    assert [one.score for one in detector.detect_one(frame, score_threshold=scores[0])] == [
        scores[0]
    ]


def test_one_picture_that_is_none_raises(detector):
    with pytest.raises(InvalidInputError, match="neither JPEG nor PNG"):
        detector.detect_one(b"nothing")


@pytest.mark.parametrize(
    ("frames", "options", "sentence"),
    [
        (b"x", {}, "not as a single bytes"),
        (EncodedImage(b"x"), {}, "not as a single EncodedImage"),
        (3, {}, "not as a single int"),
        ([], {"score_threshold": 1.5}, "score_threshold 1.5 is not within 0 to 1"),
        ([], {"max_detections": -1}, "max_detections is -1"),
    ],
)
def test_wrong_arguments_are_told_at_once(detector, frames, options, sentence):
    with pytest.raises(InvalidInputError, match=sentence):
        detector.detect(frames, **options)


@pytest.mark.parametrize("last", ["a text", np.zeros((2, 2)), ZeroDivisionError()])
def test_what_is_no_frame_ends_the_stream_after_the_answers_before(detector, last):
    def frames():
        yield encoded()
        yield encoded()
        if isinstance(last, Exception):
            raise last
        yield last

    results = detector.detect(frames())
    assert [next(results).frame_id, next(results).frame_id] == [0, 1]
    with pytest.raises(InvalidInputError, match="a frame is|source of the frames failed"):
        next(results)


def test_an_answer_does_not_wait_for_the_next_frame(detector):
    answered = threading.Event()

    def frames():
        yield encoded()
        assert answered.wait(PATIENCE_SECONDS)

    results = detector.detect(frames())
    assert next(results).frame_id == 0
    answered.set()
    assert list(results) == []


def test_leaving_early_closes_the_source_and_leaves_no_thread(detector):
    before, closed = threads(), threading.Event()

    def frames():
        try:
            while True:
                yield encoded()
        finally:
            closed.set()

    with closing(detector.detect(frames())) as results:
        next(results)
    assert closed.is_set()
    assert wait_until(lambda: [each for each in threads() if each not in before] == [])


def test_a_source_is_not_read_far_ahead(detector):
    read = []

    def frames():
        for index in range(100):
            read.append(index)
            yield encoded()

    with closing(detector.detect(frames())) as results:
        next(results)
        next(results)
        assert len(read) <= 8


def test_closing_ends_its_threads_and_refuses_frames():
    before = threads()
    detector = LocalDetector(TOY_BUNDLE)
    begun = [each for each in threads() if each not in before]
    assert sorted(each.name for each in begun) == ["backbone", "prepare", "transformer"]
    detector.close()
    detector.close()
    assert not any(each.is_alive() for each in begun)
    with pytest.raises(RuntimeError, match="after it was closed"):
        detector.detect([])


def test_a_detector_that_nobody_has_any_more_ends_its_threads():
    before = threads()
    results = LocalDetector(TOY_BUNDLE).detect([encoded(), encoded()])
    begun = [each for each in threads() if each not in before]
    gc.collect()
    assert [result.error for result in results] == [None, None]
    assert begun
    del results
    gc.collect()
    assert wait_until(lambda: not any(each.is_alive() for each in begun))


def test_a_frame_is_not_kept(detector):
    frame = pixels()
    kept = weakref.ref(frame)
    assert everything(detector, [frame])[0].error is None
    del frame
    gc.collect()
    assert wait_until(lambda: kept() is None)


def exchange_halves(folder):
    (folder / "backbone.onnx").write_bytes((folder / "transformer.onnx").read_bytes())
    write_bundle(folder, load_bundle(folder).manifest)


def damage_with_the_right_digest(folder):
    (folder / "backbone.onnx").write_bytes(b"\x12\x08no graph")
    write_bundle(folder, load_bundle(folder).manifest)


@pytest.mark.parametrize(
    ("change", "engine", "error", "sentence"),
    [
        (
            lambda folder: (folder / "bundle.json").unlink(),
            *("onnxruntime", ConfigurationError, "no bundle at"),
        ),
        (
            lambda folder: (folder / "transformer.onnx").write_bytes(b"x"),
            *("onnxruntime", ConfigurationError, "transformer.onnx has sha256"),
        ),
        (damage_with_the_right_digest, "onnxruntime", EngineError, "cannot load"),
        (lambda folder: None, "steam", ConfigurationError, "unknown engine 'steam'"),
    ],
)
def test_what_cannot_be_loaded_is_told(tmp_path, change, engine, error, sentence):
    before = threads()
    folder = Path(shutil.copytree(TOY_BUNDLE, tmp_path / "bundle"))
    change(folder)
    with pytest.raises(error, match=sentence):
        LocalDetector(folder, engine=engine)
    assert wait_until(lambda: [each for each in threads() if each not in before] == [])


def test_a_frame_that_the_engine_fails_on_is_answered_with_that(tmp_path):
    folder = Path(shutil.copytree(TOY_BUNDLE, tmp_path / "bundle"))
    exchange_halves(folder)
    with LocalDetector(folder) as detector:
        results = everything(detector, [encoded(), b"nothing", encoded()])
    assert [type(result.error) for result in results] == [
        *(EngineError, InvalidInputError, EngineError)
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import tandem",
        "from tandem import *; LocalDetector, DetectorClient",
        "from tandem import LocalDetector, FrameResult, Detection, TandemError",
    ],
)
def test_what_is_imported_is_what_is_used(code):
    heavy = {"onnxruntime", "av", "typer", "rich"} | (
        {"grpc", "cv2", "numpy"} if code[0] == "i" else set()
    )
    check = f"{code}; import sys; found = {heavy} & set(sys.modules); assert not found, found"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_local_detector_needs_no_grpc():
    code = (
        "import sys; sys.modules['grpc'] = None; sys.modules['protos'] = None;"
        "from tandem import LocalDetector;"
        f"detector = LocalDetector({str(TOY_BUNDLE)!r});"
        f"print(len(detector.detect_one({encoded()!r}, score_threshold=0)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "5\n", "")


def test_a_script_that_is_interrupted_ends_at_once(tmp_path):
    """Daemon threads in an engine's C++ must not take the process down when Python ends."""
    script = tmp_path / "script.py"
    script.write_text(
        "import itertools, sys\n"
        "from tandem import LocalDetector\n"
        f"frame = {encoded()!r}\n"
        f"detector = LocalDetector({str(TOY_BUNDLE)!r})\n"
        "for result in detector.detect(itertools.repeat(frame)):\n"
        "    print(result.frame_id, flush=True)\n"
    )
    command = [sys.executable, str(script)]
    # A test run in the background ignores SIGINT, and would hand that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with run:
        assert run.stdout.readline() == "0\n"
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")


@pytest.fixture(scope="module")
def demo_frames():
    """Frames of the shipped clip, and one that cannot be decoded among them."""
    with closing(open_source(str(shipped_clip()))) as source:
        frames = [frame.image for frame in itertools.islice(source, 0, 240, 30)]
    return [*frames[:3], EncodedImage(b"\xff\xd8\xff damaged"), *frames[3:]]


@pytest.mark.slow
async def test_it_answers_what_services_answer(demo_frames):
    options = {"score_threshold": 0.3, "max_detections": 20}
    with contextlib.closing(Cluster(shipped_bundle(), nodes=("edge",))) as cluster:
        async with DetectorClient(cluster.address) as client:
            served = [one async for one in client.detect(demo_frames, codec="fp32", **options)]
    with LocalDetector(shipped_bundle()) as detector:
        local = list(detector.detect(demo_frames, **options))
    assert len(served) == len(local) == len(demo_frames)
    for there, here in zip(served, local, strict=True):
        assert there.frame_id == here.frame_id
        assert (type(there.error), str(there.error)) == (type(here.error), str(here.error))
        assert [one.category_name for one in there.detections] == [
            one.category_name for one in here.detections
        ]
        for one, other in zip(there.detections, here.detections, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert vars(one.box) == pytest.approx(vars(other.box), abs=1e-3)
    assert sum(len(one.detections) for one in local) > 20
    assert [one.error is None for one in local].count(False) == 1


def test_two_cut_tensors_give_the_boxes_of_the_halves_that_the_services_give():
    expected, _ = Whole().answers(Codec.FP32)
    with LocalDetector(TOY_TENSORS) as detector:
        results = everything(detector, FRAMES)
    assert len(results) == len(expected)
    for result, exact in zip(results, expected, strict=True):
        found = [[one.category_id, one.score, *vars(one.box).values()] for one in result.detections]
        np.testing.assert_allclose(found, exact, atol=1e-3)


def test_the_shipped_model_sees_what_is_in_the_clip():
    with (
        closing(open_source(str(shipped_clip()))) as source,
        LocalDetector(shipped_bundle()) as detector,
    ):
        frame = next(iter(source))
        found = detector.detect_one(decode_picture(frame.image)[..., ::-1])
    assert {one.category_name for one in found} >= {"airplane", "boat", "person"}
