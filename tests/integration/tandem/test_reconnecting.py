"""An orchestrator that dies, hangs, drains or stays away, under the client's streams."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import cv2
import grpc
import pytest

from common.domain.detections import OverloadPolicy
from common.domain.errors import InvalidInputError, ResourceExhaustedError, UnavailableError
from common.wire.message_sizes import told_message_bytes
from tandem.client import DetectorClient
from tests.harness import ROOT, Cluster, clean_environment
from tests.integration.tandem.toy_orchestrator import RefusingDetector, ToyDetector, serving
from tests.streams import jpeg, picture
from tests.waiting import until

pytestmark = pytest.mark.slow

# Within so long of the orchestrator's return a stream has to go on. It is connected again within a
# second, but a busy machine takes longer.
GOES_ON_SECONDS = 45.0


@pytest.fixture(scope="module")
def cluster():
    # 20 ms an execution, so that frames are on their way whenever the orchestrator is lost.
    running = Cluster(stage_arguments=("--paced-milliseconds", "20"))
    yield running
    running.close()


class Stream:
    """A stream that is read in the background; every result with the time of its coming."""

    def __init__(self, address, frames, reconnect_seconds=60.0, **options):
        self.results = []
        self.times = []
        self._task = asyncio.ensure_future(self._run(address, frames, reconnect_seconds, options))

    async def _run(self, address, frames, reconnect_seconds, options):
        async with DetectorClient(address, reconnect_seconds=reconnect_seconds) as client:
            async for result in client.detect(frames, **options):
                self.results.append(result)
                self.times.append(time.monotonic())

    async def reach(self, count):
        await self.until(lambda: len(self.results) >= count)

    async def until(self, condition):
        await until(lambda: self._task.done() or condition())
        assert condition(), self._task.result()

    async def ended(self):
        await asyncio.wait_for(self._task, 120)

    def ids(self):
        return [result.frame_id for result in self.results]

    def first_after(self, moment):
        return next(at for at in self.times if at > moment) - moment


class Pictures:
    """Goes on until told to end, so that frames are left however late something happens."""

    def __init__(self):
        self.sent = 0
        self.has_to_end = False

    def __iter__(self):
        while not self.has_to_end:
            yield jpeg(self.sent % 8)
            self.sent += 1


def killed(orchestrator):
    orchestrator.kill()


def drained(orchestrator):
    assert orchestrator.terminate() == 0


def hung_and_killed(orchestrator):
    orchestrator.hang()
    orchestrator.kill()


@pytest.mark.parametrize("lost", [killed, drained, hung_and_killed])
async def test_a_stream_goes_on_when_the_orchestrator_is_back(cluster, lost):
    pictures = Pictures()
    stream = Stream(cluster.address, pictures)
    await stream.reach(30)
    await asyncio.to_thread(lost, cluster.orchestrator)
    await asyncio.to_thread(lambda: cluster.restart_orchestrator().announcement)
    back = time.monotonic()
    await stream.reach(len(stream.results) + 50)
    pictures.has_to_end = True
    await stream.ended()
    assert stream.ids() == list(range(pictures.sent))
    assert {result.error for result in stream.results} == {None}
    assert all(result.detections for result in stream.results)
    assert stream.first_after(back) < GOES_ON_SECONDS


async def test_a_stream_outlives_an_orchestrator_that_hangs_for_a_while(cluster):
    pictures = Pictures()
    stream = Stream(cluster.address, pictures)
    await stream.reach(20)
    cluster.orchestrator.hang()
    # What it had answered still comes.
    await asyncio.sleep(1)
    count = len(stream.results)
    await asyncio.sleep(1)
    assert len(stream.results) == count
    cluster.orchestrator.go_on()
    back = time.monotonic()
    await stream.reach(count + 20)
    pictures.has_to_end = True
    await stream.ended()
    assert stream.ids() == list(range(pictures.sent))
    assert stream.first_after(back) < GOES_ON_SECONDS


async def test_frames_of_a_live_stream_are_dropped_while_there_is_no_orchestrator(cluster):
    done = asyncio.Event()

    async def camera():
        sent = 0
        while not done.is_set():
            yield jpeg(sent % 8)
            sent += 1
            await asyncio.sleep(0.02)

    stream = Stream(cluster.address, camera(), overload=OverloadPolicy.DROP_OLDEST)
    await stream.reach(30)
    await asyncio.to_thread(cluster.orchestrator.kill)
    lost = len(stream.results)
    # It goes on answering the camera's frames, each as dropped.
    await stream.until(
        lambda: (
            len(stream.results) >= lost + 30
            and all(result.dropped for result in stream.results[-30:])
        )
    )
    await asyncio.to_thread(lambda: cluster.restart_orchestrator().announcement)
    back = time.monotonic()
    await stream.until(
        lambda: any(
            result.detections and at > back
            for result, at in zip(stream.results, stream.times, strict=True)
        )
    )
    assert time.monotonic() - back < GOES_ON_SECONDS
    done.set()
    await stream.ended()
    assert stream.ids() == list(range(len(stream.results)))
    assert {result.error for result in stream.results} == {None}
    # The newest frame wins: what had been under way was not sent again.
    served = [r for r, at in zip(stream.results, stream.times, strict=True) if at > back]
    assert all(r.round_trip_seconds < GOES_ON_SECONDS for r in served if r.detections)


async def test_an_orchestrator_that_stays_away_is_told_after_the_time(cluster):
    stream = Stream(cluster.address, (jpeg(0) for _ in range(500)), reconnect_seconds=1.5)
    await stream.reach(10)
    await asyncio.to_thread(cluster.orchestrator.kill)
    lost = time.monotonic()
    with pytest.raises(UnavailableError, match="connection lost; it did not come back within 1.5"):
        await stream.ended()
    assert 1.4 < time.monotonic() - lost < GOES_ON_SECONDS
    assert stream.ids() == list(range(len(stream.results)))
    await asyncio.to_thread(lambda: cluster.restart_orchestrator().announcement)


async def test_reconnecting_can_be_turned_off(cluster):
    stream = Stream(cluster.address, (jpeg(0) for _ in range(500)), reconnect_seconds=0)
    await stream.reach(10)
    await asyncio.to_thread(cluster.orchestrator.kill)
    lost = time.monotonic()
    with pytest.raises(
        UnavailableError, match=r"orchestrator at 127\.0\.0\.1:\d+: connection lost$"
    ):
        await stream.ended()
    assert time.monotonic() - lost < GOES_ON_SECONDS
    await asyncio.to_thread(lambda: cluster.restart_orchestrator().announcement)


async def test_a_stream_that_has_all_its_answers_needs_no_orchestrator_any_more():
    answered = asyncio.Event()

    class Leaving(ToyDetector):
        """Answers everything, and then is gone before it says that it has ended."""

        async def Detect(self, request_iterator, context):
            async for response in super().Detect(request_iterator, context):
                yield response
            answered.set()
            await asyncio.Event().wait()

    async with serving(Leaving()) as address:
        stream = Stream(address, [b"x"] * 3)
        await asyncio.wait_for(answered.wait(), 60)
        await stream.reach(3)
    # The server is gone.
    await stream.ended()
    assert stream.ids() == [0, 1, 2]


async def test_a_server_that_refuses_is_not_asked_again():
    servicer = RefusingDetector()
    async with serving(servicer) as address:
        stream = Stream(address, [b"x"] * 5)
        with pytest.raises(ResourceExhaustedError, match="no more today"):
            await stream.ended()
    assert servicer.received.count(0) == 1


class LateDetector(ToyDetector):
    """Its gRPC ends the first stream as it ends a call that a starved process takes too late."""

    def __init__(self):
        super().__init__()
        self.told = []

    async def Detect(self, request_iterator, context):
        self.told.append(told_message_bytes(context.invocation_metadata()))
        if len(self.told) == 1:
            async for request in request_iterator:
                if request.WhichOneof("request") == "frame":
                    await context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")
        async for response in super().Detect(request_iterator, context):
            yield response


async def test_a_stream_that_grpc_ended_begins_anew_and_tells_how_large_its_frames_are():
    servicer = LateDetector()
    async with serving(servicer) as address:
        stream = Stream(address, [b"x" * 5_000, b"x", b"x"], frame_bytes=1_000)
        await stream.ended()
    assert stream.ids() == [0, 1, 2]
    first, second = servicer.told
    assert first == 1_000
    assert 5_000 < second < 5_100


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_time_below_0_is_refused(seconds):
    with pytest.raises(InvalidInputError, match="reconnect_seconds"):
        DetectorClient("127.0.0.1:1", reconnect_seconds=seconds)


async def test_the_command_goes_on_too(cluster, tmp_path):
    for each in range(80):
        cv2.imwrite(str(tmp_path / f"{each:03}.png"), picture(each % 8))
    command = ("-m", "tandem", "detect", str(tmp_path), "--server", cluster.address, "--json")
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(20)]
        await asyncio.to_thread(cluster.orchestrator.kill)
        await asyncio.to_thread(lambda: cluster.restart_orchestrator().announcement)
        rest, complaints = await asyncio.to_thread(process.communicate, None, 120)
    assert process.returncode == 0, complaints
    results = [json.loads(line) for line in (*lines, *rest.splitlines())]
    assert [result["frame_id"] for result in results] == list(range(80))
    assert all(result["error"] is None for result in results)


PAUSING = """
import asyncio, sys
from tandem.client import DetectorClient
from tests.streams import jpeg

async def main(address, seconds, frames):
    async with DetectorClient(address, reconnect_seconds=float(seconds)) as client:
        async for result in client.detect(jpeg(0) for _ in range(int(frames))):
            print(result.frame_id, bool(result.detections), flush=True)

try:
    asyncio.run(main(*sys.argv[1:]))
except Exception as error:
    print(type(error).__name__, error, flush=True)
"""


async def stopped_meanwhile(cluster, reconnect_seconds, frames):
    """What a client prints that was stopped until the orchestrator gave its stream up."""
    with subprocess.Popen(
        [sys.executable, "-c", PAUSING, cluster.address, reconnect_seconds, str(frames)],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(20)]
        os.kill(process.pid, signal.SIGSTOP)
        await until(lambda: not open_sessions(cluster.orchestrator))
        os.kill(process.pid, signal.SIGCONT)
        rest, _ = await asyncio.to_thread(process.communicate, None, 120)
    return [*"".join(lines).splitlines(), *rest.splitlines()]


def open_sessions(orchestrator):
    events = [each["event"] for each in orchestrator.log_events()]
    return events.count("session opened") - events.count("session closed")


async def test_a_client_that_was_stopped_goes_on_or_tells_that_its_connection_is_lost(cluster):
    """As after Ctrl-Z and fg, or when a laptop was closed: the orchestrator has given it up."""
    patient, impatient = await asyncio.gather(
        stopped_meanwhile(cluster, "60", 120), stopped_meanwhile(cluster, "0", 2000)
    )
    assert patient == [f"{each} True" for each in range(120)]
    *answers, last = impatient
    assert last == f"UnavailableError orchestrator at {cluster.address}: connection lost"
    assert answers == [f"{each} True" for each in range(len(answers))]
    assert len(answers) < 2000
