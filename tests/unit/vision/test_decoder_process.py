"""Decoding in a process: the same pixels, and an end to whatever takes too long."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.frames import EncodedImage
from common.vision.confined_process import CpuTimeError, start_server
from common.vision.decode import decode_image
from common.vision.decoder_process import DecoderProcess
from common.vision.headers import ImageHeader, read_header
from common.vision.limits import ImageSize
from common.vision.resize import resize_bilinear
from tests.poison import endless_png, png

PLENTY_BYTES = 1 << 30
ENDLESS = endless_png(64 << 30)
WANTED = ImageSize(8, 8)


@pytest.fixture
def decoder() -> Iterator[DecoderProcess]:
    start_server()
    running = DecoderProcess(PLENTY_BYTES)
    running.start()
    yield running
    running.close()


def endless_header() -> ImageHeader:
    """Of a picture that no limit would let pass."""
    return ImageHeader(ImageSize(10, 10), 0.0, ((0, len(ENDLESS)),))


def decode(decoder: DecoderProcess, data: bytes, size: ImageSize = WANTED) -> np.ndarray:
    return decoder.decode(data, read_header(data, 10**8), size, 30, 60).rgb.copy()


def decode_endlessly(decoder: DecoderProcess, cpu_seconds: float, wall_seconds: float) -> None:
    decoder.decode(ENDLESS, endless_header(), WANTED, cpu_seconds, wall_seconds)


def processes() -> list[psutil.Process]:
    """The decoders of this process, and not those of services that other tests still run."""
    return [
        each
        for each in psutil.Process().children(recursive=True)
        if "forkserver" in " ".join(each.cmdline()) and each.parent().ppid() == os.getpid()
    ]


def test_the_pixels_are_those_of_decoding_here(
    decoder: DecoderProcess, picture: Callable[[int, int], np.ndarray]
) -> None:
    # Of sizes that make the shared buffer grow and shrink.
    for height, width, kind in ((48, 64, ".jpg"), (2000, 2400, ".png"), (48, 64, ".png")):
        pixels = picture(48, 64) if height == 48 else np.tile(picture(200, 240), (10, 10, 1))
        data = cv2.imencode(kind, pixels)[1].tobytes()
        here = resize_bilinear(decode_image(EncodedImage(data), 10**7), 30, 40)
        np.testing.assert_array_equal(decode(decoder, data, ImageSize(40, 30)), here)
        assert (pixels.shape[0], pixels.shape[1]) == (height, width)


def test_cpu_time_is_limited_and_the_next_picture_decoded(decoder: DecoderProcess) -> None:
    for _ in range(3):
        used = sum(each.cpu_times().user for each in processes())
        with pytest.raises(CpuTimeError):
            decode_endlessly(decoder, 0.2, 60)
        assert decode(decoder, png(20, 30)).shape == (8, 8, 3)
        assert sum(each.cpu_times().user for each in processes()) < used + 1


def test_a_machine_without_time_is_no_fault_of_the_picture(decoder: DecoderProcess) -> None:
    (process,) = processes()
    process.suspend()
    with pytest.raises(UnavailableError, match="too busy"):
        decode_endlessly(decoder, 60, 0.3)
    assert not process.is_running()
    assert decode(decoder, png(20, 30)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("number", "error"), [(11, InvalidInputError), (6, InvalidInputError), (9, UnavailableError)]
)
def test_a_crash_is_the_frames_own_failure(
    decoder: DecoderProcess, number: int, error: type[Exception]
) -> None:
    (process,) = processes()

    def crash_it() -> None:
        while process.cpu_times().user < 0.1:
            pass
        process.send_signal(number)

    crasher = threading.Thread(target=crash_it)
    crasher.start()
    with pytest.raises(error):
        decode_endlessly(decoder, 60, 60)
    crasher.join()
    assert decode(decoder, png(20, 30)).shape == (8, 8, 3)


def test_memory_is_limited() -> None:
    start_server()
    poor = DecoderProcess(48 << 20)
    try:
        with pytest.raises(InvalidInputError, match="memory|cannot be decoded"):
            decode(poor, png(6000, 5000))
        assert decode(poor, png(20, 30)).shape == (8, 8, 3)
    finally:
        poor.close()


def test_undecodable_pictures_do_not_end_the_process(
    decoder: DecoderProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    (before,) = processes()
    for data in (png(20, 30, rows=b""), png(20, 30, rows=b"\xff" * 2000)):
        with pytest.raises(InvalidInputError, match="cannot be decoded"):
            decode(decoder, data)
    assert [each.pid for each in processes()] == [before.pid]
    # Whatever the libraries have to say.
    assert capfd.readouterr().err == ""


def test_closing_ends_a_picture_under_way_at_once(decoder: DecoderProcess) -> None:
    (process,) = processes()
    raised: list[Exception] = []

    def decode_it() -> None:
        try:
            decode_endlessly(decoder, 60, 60)
        except UnavailableError as error:
            raised.append(error)

    worker = threading.Thread(target=decode_it)
    worker.start()
    while process.cpu_times().user < 0.1:
        pass
    started = time.perf_counter()
    decoder.close()
    worker.join(60)
    # It would decode for a minute.
    assert time.perf_counter() - started < 20
    assert "shutting down" in str(raised[0])
    with pytest.raises(UnavailableError, match="shutting down"):
        decode(decoder, png(20, 30))


def test_the_server_may_die(decoder: DecoderProcess) -> None:
    (process,) = processes()
    server = process.parent()
    server.kill()
    assert decode(decoder, png(20, 30)).shape == (8, 8, 3)
    with pytest.raises((UnavailableError, CpuTimeError)):
        decode_endlessly(decoder, 0.2, 60)
    assert decode(decoder, png(20, 30)).shape == (8, 8, 3)


def is_running(number: int) -> bool:
    """Whether a process runs; who is to collect it once it has ended may be slow."""
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_end_of_the_server_of_decoders_is_not_the_fault_of_the_image(
    decoder: DecoderProcess, picture: Callable[[int, int], np.ndarray]
) -> None:
    (child,) = processes()
    outcomes: list[Exception] = []

    def run() -> None:
        try:
            decode_endlessly(decoder, 600, 600)
        except Exception as error:
            outcomes.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while child.cpu_times().user < 0.1:
        time.sleep(0.01)
    server = child.parent()
    server.kill()
    while server.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    child.kill()
    thread.join(60)
    (error,) = outcomes
    assert isinstance(error, UnavailableError)
    # Both are started anew.
    decode(decoder, cv2.imencode(".png", picture(48, 64))[1].tobytes())


KILLED = """
import os, signal
from common.vision.confined_process import start_server
from common.vision.decoder_process import DecoderProcess
from tests.unit.vision.test_decoder_process import decode_endlessly
import threading, time, psutil
start_server()
decoder = DecoderProcess(1 << 30)
decoder.start()
threading.Thread(target=decode_endlessly, args=(decoder, 600, 600), daemon=True).start()
decoders = lambda: psutil.Process().children(recursive=True)
while not any(c.cpu_times().user > 0.5 for c in decoders()):
    time.sleep(0.01)
print(*[c.pid for c in decoders()], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_process_outlives_a_service_that_is_killed() -> None:
    root = Path(__file__).parents[3]
    ended = subprocess.run([sys.executable, "-c", KILLED], cwd=root, capture_output=True, text=True)
    numbers = [int(word) for word in ended.stdout.split()]
    assert len(numbers) == 3, ended.stderr
    deadline = time.monotonic() + 60
    while any(is_running(number) for number in numbers):
        assert time.monotonic() < deadline
