"""Real pictures, videos and results for the client's tests."""

import av
import cv2
import numpy as np

from common.domain.detections import Box, Detection, FrameTiming, StageTiming
from common.domain.placement import Placement
from tandem.results import FrameResult


def pixels(height=40, width=60, seed=0):
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def encoded(suffix=".png", **size):
    return cv2.imencode(suffix, pixels(**size))[1].tobytes()


def write_video(path, frames=5, rate=10, height=48, width=64, **encoder):
    """A video as players make them, with B frames; see `write_camera_video` for one without."""
    options, codec = encoder.get("options", {}), encoder.get("codec", "libx264")
    with av.open(str(path), "w", format=encoder.get("format")) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = height, width
        stream.pix_fmt = encoder.get("pixel_format", "yuv420p")
        if "rotation" in encoder:
            stream.set_display_rotation(encoder["rotation"])
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(pixels(height, width, seed=index), format="bgr24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def write_camera_video(path, frames=12, codec="libx264", **more):
    """A video as cameras make them: no B frames, a key frame every 5 frames, and no others."""
    options = {"bf": "0", "g": "5", "sc_threshold": "0"}
    if codec == "libx265":
        options = {"x265-params": "bframes=0:keyint=5:scenecut=0:info=0:log-level=none"}
    options |= more.pop("options", {})
    return write_video(path, frames, codec=codec, options=options, **more)


def read_video(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(stream)]
        return frames, float(stream.average_rate), stream.codec.name


def detection(category_id=1, score=0.9, box=(5, 5, 30, 20), name="person"):
    return Detection(category_id, name, score, Box(*box))


def stage_timing(execute_seconds=0.01, request_bytes=1000, node="edge"):
    return StageTiming(node, execute_seconds=execute_seconds, request_bytes=request_bytes)


def result(
    frame_id=0,
    detections=(),
    *,
    error=None,
    dropped=False,
    placement=Placement.FULL,
    timing=None,
    round_trip_seconds=0.05,
):
    timing = timing or FrameTiming(stage_timing(0.02, 3000), stage_timing(0.01, 1000), 0.04)
    node_pair = placement.node_pair if placement else None
    return FrameResult(
        frame_id, tuple(detections), error, dropped, node_pair, timing, round_trip_seconds
    )
