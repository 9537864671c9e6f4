"""Engines of several processes on one imitated device."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import pytest

from common.domain.errors import ConfigurationError
from common.engines.paced import SimulatedDevice
from tests.harness import ROOT, clean_environment

DURATION_SECONDS = 0.02


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """What the device's file is in."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


class Sharer:
    """A process that executes on a shared device without a pause."""

    def __init__(self, folder: Path) -> None:
        bundle = str(ROOT / "tests" / "data" / "demo-r18")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.engines.sharer", bundle, "tx2"]
            + [str(DURATION_SECONDS)],
            cwd=str(ROOT),
            env={**clean_environment(), "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.read(1)

    def read(self, count: int) -> List[float]:
        """When each of the next executions ended."""
        return [float(self.process.stdout.readline()) for _ in range(count)]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def sharers(folder):
    both = [Sharer(folder), Sharer(folder)]
    yield both
    for each in both:
        each.close()


def ended_after(moment: float, sharer: Sharer, count: int) -> List[float]:
    """When executions ended that were asked for after `moment`."""
    while sharer.read(1)[0] < moment + 3 * DURATION_SECONDS:
        pass
    return sharer.read(count)


@pytest.mark.alone
def test_two_processes_share_the_devices_time_evenly(sharers):
    now = time.monotonic()
    first, second = (ended_after(now, each, 50) for each in sharers)
    for ended in (first, second):
        mean_seconds = (ended[-1] - ended[0]) / (len(ended) - 1)
        # Alone it would be one; while the other is stopped by the machine, each has more.
        assert mean_seconds > 1.5 * DURATION_SECONDS
    both = [(moment, 0) for moment in first] + [(moment, 1) for moment in second]
    shared_from, shared_to = max(first[0], second[0]), min(first[-1], second[-1])
    order = [who for moment, who in sorted(both) if shared_from <= moment <= shared_to]
    # Whoever wakes late may be told after the next; but turns go round.
    changes = sum(one != next_one for one, next_one in zip(order, order[1:]))
    assert changes > len(order) / 3


@pytest.mark.alone
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_stopped_process_leaves_the_device_to_the_other(sharers, number):
    dead, alive = sharers
    os.kill(dead.process.pid, number)
    ended = ended_after(time.monotonic(), alive, 50)
    mean_seconds = (ended[-1] - ended[0]) / (len(ended) - 1)
    # Alone it has the device to itself, but for the machine's delays.
    assert DURATION_SECONDS * 0.99 < mean_seconds < 1.8 * DURATION_SECONDS


def test_executions_queue_in_the_order_asked(folder):
    one, other = SimulatedDevice("tx2"), SimulatedDevice("tx2")
    begins = [each.reserve(10.0) for each in (one, other, other, one)]
    assert begins == [begins[0], begins[0] + 10, begins[0] + 20, begins[0] + 30]
    unrelated = SimulatedDevice("orin").reserve(10.0)
    assert begins[0] <= unrelated < begins[0] + 10
    one.close()
    assert other.reserve(10.0) == begins[0] + 40


@pytest.mark.parametrize(
    "content", [b"", b"\x01", struct.pack("<d", float("nan")), struct.pack("<d", 1e12)]
)
def test_a_torn_or_outdated_file_does_not_block_the_device(folder, content):
    (folder / "tandem-device-tx2").write_bytes(content)
    device = SimulatedDevice("tx2")
    before = time.monotonic()
    assert before <= device.reserve(1.0) <= time.monotonic()


def test_a_file_that_cannot_be_opened_is_a_sentence(folder):
    (folder / "tandem-device-tx2").mkdir()
    with pytest.raises(ConfigurationError, match="cannot share device 'tx2'"):
        SimulatedDevice("tx2")
