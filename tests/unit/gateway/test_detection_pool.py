"""Single pictures on streams of a real, small orchestrator."""

import asyncio
import contextlib
from contextlib import asynccontextmanager

import grpc
import pytest
from prometheus_client import CollectorRegistry

from common.domain.detections import DetectionOptions
from common.domain.errors import InvalidInputError, ResourceExhaustedError, UnavailableError
from common.domain.frames import EncodedImage
from protos.tandem.v1 import detector_pb2_grpc
from services.gateway.detection_pool import DetectionPool
from services.gateway.picture_metrics import PictureMetrics
from tandem.client import DetectorClient
from tests.integration.tandem.toy_orchestrator import ErringDetector, ToyDetector, serving

EVERYTHING = DetectionOptions(score_threshold=0.0)


class PatientDetector(ToyDetector):
    """Answers each frame once it is told to; ends the stream of one that is as long as `fatal`."""

    def __init__(self, fatal=None):
        super().__init__()
        self.fatal = fatal
        self.arrived = asyncio.Queue()
        self.allowed = asyncio.Semaphore(0)
        self.streams = []

    async def Detect(self, request_iterator, context):
        self.streams.append(context)
        async for answer in super().Detect(request_iterator, context):
            yield answer

    async def answer(self, frame, context):
        self.arrived.put_nowait(len(frame.encoded))
        if len(frame.encoded) == self.fatal:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max (2 vs. 1)")
        await self.allowed.acquire()
        return await super().answer(frame, context)


@asynccontextmanager
async def pool_of(detector, streams=4):
    async with serving(detector) as address, DetectorClient(address, reconnect_seconds=0) as client:
        pool = DetectionPool(client, streams, PictureMetrics(CollectorRegistry()))
        try:
            yield pool
        finally:
            await pool.close()
    assert not [task for task in asyncio.all_tasks() if "_Stream._serve" in repr(task)]


def asking(pool, length, wanted=EVERYTHING):
    return asyncio.create_task(pool.detect(EncodedImage(b"x" * length), wanted))


def length_told(result):
    return round(result.detections[0].box.x_max - result.detections[0].box.x_min)


async def test_pictures_wait_for_a_stream_in_the_order_of_their_coming():
    detector = PatientDetector()
    async with pool_of(detector, streams=2) as pool:
        asked = [asking(pool, length) for length in (1, 2, 3, 4)]
        assert {await detector.arrived.get() for _ in range(2)} == {1, 2}
        assert detector.arrived.empty()
        for length in (3, 4):
            detector.allowed.release()
            assert await detector.arrived.get() == length
        for _ in range(2):
            detector.allowed.release()
        assert [length_told(result) for result in await asyncio.gather(*asked)] == [1, 2, 3, 4]
    assert len(detector.streams) == 2


async def test_what_ends_a_stream_fails_one_picture_alone():
    detector = PatientDetector(fatal=2)
    async with pool_of(detector) as pool:
        asked = [asking(pool, length) for length in (1, 2, 3)]
        with pytest.raises(ResourceExhaustedError, match="larger than max"):
            await asked[1]
        detector.allowed.release()
        detector.allowed.release()
        assert [length_told(await asked[index]) for index in (0, 2)] == [1, 3]


async def test_a_caller_that_leaves_ends_its_stream_and_no_other():
    detector = PatientDetector()
    async with pool_of(detector, streams=2) as pool:
        leaving, staying, waiting = (asking(pool, length) for length in (1, 2, 3))
        assert {await detector.arrived.get() for _ in range(2)} == {1, 2}
        leaving.cancel()
        await detector.ended.wait()
        # Its place is free before the others are answered.
        assert await detector.arrived.get() == 3
        detector.allowed.release()
        detector.allowed.release()
        assert length_told(await staying) == 2
        assert length_told(await waiting) == 3
        assert leaving.cancelled()


async def test_an_error_and_a_drop_are_the_pictures_own():
    async with pool_of(ErringDetector(), streams=1) as pool:
        first = await asking(pool, 1)
        assert first.error is None
        second = await asking(pool, 2)
        assert isinstance(second.error, InvalidInputError)
        with pytest.raises(UnavailableError, match="dropped"):
            await asking(pool, 3)
        assert length_told(await asking(pool, 4)) == 4


async def test_callers_of_many_thresholds_share_few_streams():
    detector = PatientDetector()
    async with pool_of(detector, streams=2) as pool:
        for number in range(41):
            detector.allowed.release()
            threshold = 0.4 + number / 1000
            wanted = DetectionOptions(threshold)
            assert len((await asking(pool, 1, wanted)).detections) == 1
        assert len(detector.streams) == 1
        assert detector.options.score_threshold == pytest.approx(0.4)
        for threshold, found in ((0.75, 1), (0.76, 0), (0.0, 1), (1.0, 0), (0.3, 1)):
            detector.allowed.release()
            result = await asking(pool, 1, DetectionOptions(threshold))
            assert len(result.detections) == found, threshold
            assert detector.options.score_threshold <= threshold + 1e-6
        still_open = [stream for stream in detector.streams if not stream.done()]
        assert len(still_open) <= 2


async def test_so_many_detections_as_are_wanted():
    async with pool_of(ToyDetector()) as pool:
        assert len((await asking(pool, 1, DetectionOptions(0.0, 1))).detections) == 1
        for wanted in (
            DetectionOptions(1.5),
            DetectionOptions(float("nan")),
            DetectionOptions(0.5, -1),
        ):
            with pytest.raises(InvalidInputError):
                await asking(pool, 1, wanted)


async def test_an_orchestrator_that_was_started_anew_serves_the_next_picture():
    async def started(port=0):
        server = grpc.aio.server()
        detector_pb2_grpc.add_DetectorServicer_to_server(ToyDetector(), server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return server, port

    server, port = await started()
    async with DetectorClient(f"127.0.0.1:{port}", reconnect_seconds=0) as client:
        pool = DetectionPool(client, 2, PictureMetrics(CollectorRegistry()))
        assert length_told(await asking(pool, 1)) == 1
        await server.stop(None)
        with pytest.raises(UnavailableError):
            await asking(pool, 2)
        server, _ = await started(port)
        # The channel pauses for up to a second before it tries again.
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(UnavailableError):
                    assert length_told(await asking(pool, 3)) == 3
                    break
        await pool.close()
        await server.stop(None)
