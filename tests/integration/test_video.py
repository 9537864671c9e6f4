"""A backbone that serves streams of video: whose pictures they are, and what is refused."""

import contextlib
import json
import os
from pathlib import Path

import cv2
import grpc
import numpy as np
import psutil
import pytest
from google.rpc import code_pb2

from common.domain.frames import EncodedImage
from common.domain.video import AccessUnit, VideoCodec, VideoFormat
from common.server.options import channel_options
from common.wire.errors import error_from_wire
from common.wire.frames import frame_to_wire
from common.wire.video import video_to_wire
from protos.tandem.v1 import stage_pb2, stage_pb2_grpc
from tests.harness import TOY_BUNDLE, ServiceProcess
from tests.videos import KEY_INTERVAL, cut, decoded, encoded, moving_pictures
from tests.waiting import until

H264, H265 = VideoCodec
ARGUMENTS = ("--bundle", str(TOY_BUNDLE), "--port", "0", "--metrics-port", "0", "--node", "edge")
MESSAGE_BYTES = 64 << 20
STREAMS = 2


@pytest.fixture(scope="module")
def backbone():
    transformer = ServiceProcess("services.transformer", *ARGUMENTS)
    transformers = ("--transformers", json.dumps({"edge": transformer.address}))
    started = ServiceProcess(
        "services.backbone", *ARGUMENTS, *transformers, "--max-video-streams", str(STREAMS)
    )
    yield started
    started.close()
    transformer.close()


class Stream:
    """A stream to a backbone: each frame is sent, and then its answer read."""

    def __init__(self, call):
        self._call = call
        self._sent = 0

    async def show(self, content):
        self._sent += 1
        frame = frame_to_wire(self._sent, content)
        await self._call.write(stage_pb2.BackboneRequest(frame=frame))
        result = (await self._call.read()).result
        assert result.frame_id == self._sent
        return result

    async def follow(self, content):
        self._sent += 1
        frame = frame_to_wire(self._sent, content)
        await self._call.write(stage_pb2.BackboneRequest(decode_only=frame))

    async def refused(self, content):
        """Why a frame was not served; it has to be the sender's fault."""
        result = await self.show(content)
        assert result.error.code == code_pb2.INVALID_ARGUMENT, result
        return result.error.message


@contextlib.asynccontextmanager
async def opened(backbone, video=H264):
    async with grpc.aio.insecure_channel(backbone.address, channel_options(MESSAGE_BYTES)) as way:
        call = stage_pb2_grpc.BackboneStub(way).Process()
        opening = stage_pb2.BackboneOpen(
            context=stage_pb2.StreamContext(session_id="test", score_threshold=0.0),
            downstream_node="edge",
            video=None if video is None else video_to_wire(VideoFormat(video)),
        )
        await call.write(stage_pb2.BackboneRequest(open=opening))
        assert (await call.read()).opened.node == "edge"
        yield Stream(call)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


def found(result):
    assert result.WhichOneof("result") == "detections", result
    return np.array(
        [
            (each.score, each.box.x_min, each.box.y_min, each.box.x_max, each.box.y_max)
            for each in result.detections.detections
        ]
    )


def png(rgb):
    return EncodedImage(cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes())


async def expected(backbone, units, codec=H264):
    """What is found in the pictures of access units, sent as PNG."""
    async with opened(backbone, None) as stream:
        return [found(await stream.show(png(rgb))) for rgb in decoded(units, codec)]


@pytest.mark.parametrize("codec", VideoCodec)
async def test_the_same_is_found_as_in_the_same_pictures(backbone, codec):
    units = encoded(moving_pictures(7), codec)
    of_pictures = await expected(backbone, units, codec)
    assert len(of_pictures[0])
    async with opened(backbone, codec) as stream:
        for unit, of_picture in zip(units, of_pictures):
            result = await stream.show(unit)
            np.testing.assert_array_equal(found(result), of_picture)
            assert result.timing.backbone.decode_seconds > 0
            assert result.timing.backbone.request_bytes == len(unit.data)


async def test_what_is_only_decoded_gets_no_result(backbone):
    units = encoded(moving_pictures(5))
    *_, last = await expected(backbone, units)
    async with opened(backbone) as stream:
        await stream.follow(AccessUnit(b"damaged", True))
        for unit in units[:4]:
            await stream.follow(unit)
        # The frame's id is looked at, so that no other answer can be taken for this one.
        np.testing.assert_array_equal(found(await stream.show(units[4])), last)


async def test_bad_frames_are_refused_and_the_stream_goes_on(backbone):
    units = encoded(moving_pictures(2 * KEY_INTERVAL))
    key, next_key = units[0], units[KEY_INTERVAL]
    async with opened(backbone) as stream:
        assert "no key frame has come yet" in await stream.refused(units[1])
        for content, words in [
            (AccessUnit(b"", True), "is empty"),
            (AccessUnit(bytes(30 << 20), True), "max_access_unit_mebibytes"),
            (png(moving_pictures(1)[0]), "say that it is h264 video"),
            (AccessUnit(cv2.imencode(".jpg", moving_pictures(1)[0])[1].tobytes(), True), "JPEG"),
            (encoded(moving_pictures(1), H265)[0], "looks like H.265"),
            (encoded(moving_pictures(1), tff=1)[0], "interlaced"),
            (encoded(moving_pictures(4), b_frames=2)[0], "B frames"),
            (AccessUnit(key.data + units[1].data, True), "two pictures"),
            (cut(key, 0.9), "damaged"),
        ]:
            assert words in await stream.refused(content)
        found(await stream.show(key))
        found(await stream.show(units[1]))
        # One is left out.
        assert "is missing before this one" in await stream.refused(units[3])
        assert "from the next key frame on" in await stream.refused(units[4])
        found(await stream.show(next_key))
        # Another size, more colours.
        found(await stream.show(encoded(moving_pictures(1, 240, 320))[0]))
        found(await stream.show(encoded(moving_pictures(1), pixels="yuv444p")[0]))
        found(await stream.show(encoded(moving_pictures(1), pixels="yuv420p10le")[0]))


async def test_video_is_no_frame_of_other_streams(backbone):
    async with opened(backbone, None) as stream:
        assert "have no `video`" in await stream.refused(encoded(moving_pictures(1))[0])
        await stream.follow(png(moving_pictures(1)[0]))
        found(await stream.show(png(moving_pictures(1)[0])))


def decoders(backbone):
    return [
        each
        for each in psutil.Process(backbone.process.pid).children(recursive=True)
        if "forkserver" in " ".join(each.cmdline())
    ]


async def test_decoders_are_limited_and_end_with_their_streams(backbone):
    unit = encoded(moving_pictures(1))[0]
    # Those for pictures run by then.
    await expected(backbone, [unit])
    before = len(decoders(backbone))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(STREAMS):
            stream = await stack.enter_async_context(opened(backbone))
            found(await stream.show(unit))
        assert len(decoders(backbone)) == before + STREAMS
        with pytest.raises(
            grpc.aio.AioRpcError, match=r"RESOURCE_EXHAUSTED(.|\n)*max_video_streams"
        ):
            async with opened(backbone):
                pass
        async with opened(backbone, None) as stream:
            found(await stream.show(png(moving_pictures(1)[0])))
    # A stream's end is answered once its decoder has ended.
    assert len(decoders(backbone)) == before
    async with opened(backbone) as stream:
        found(await stream.show(unit))


async def test_a_killed_decoder_is_not_the_senders_fault(backbone):
    units = encoded(moving_pictures(3))
    await expected(backbone, units[:1])
    before = {each.pid for each in decoders(backbone)}
    async with opened(backbone) as stream:
        found(await stream.show(units[0]))
        (own,) = [each for each in decoders(backbone) if each.pid not in before]
        own.kill()
        for unit in units[1:]:
            result = await stream.show(unit)
            assert result.error.code == code_pb2.UNAVAILABLE
            assert "was killed" in str(error_from_wire(result.error))
        await stream.follow(units[0])
        found(await stream.show(units[1]))


def buffers(backbone):
    """How many of the buffers that are shared with decoders it holds."""
    links = []
    for each in Path(f"/proc/{backbone.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(each))
    return sum("tandem-frame" in link for link in links)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="buffers have no name here")
async def test_a_streams_buffer_goes_with_it(backbone):
    unit = encoded(moving_pictures(1))[0]
    await expected(backbone, [unit])
    before = buffers(backbone)
    for _ in range(6):
        async with opened(backbone) as stream:
            found(await stream.show(unit))
            assert "damaged" in await stream.refused(cut(unit, 0.5))
    await until(lambda: buffers(backbone) <= before, "buffers of ended streams are kept", 10.0)
