"""Where results go: pictures and videos with boxes drawn, JSON lines.

Nothing has its wanted name before it is whole: see `common.files`.
"""

from client.sinks.base import Sink
from client.sinks.lines import JsonLinesSink, frame_to_json
from client.sinks.opening import open_sink
from client.sinks.pictures import FolderSink, PictureSink
from client.sinks.video import VideoSink

__all__ = [
    "FolderSink",
    "JsonLinesSink",
    "PictureSink",
    "Sink",
    "VideoSink",
    "frame_to_json",
    "open_sink",
]
