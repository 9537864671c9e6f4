"""Where results go: pictures and videos with boxes drawn, JSON lines.

Nothing has its wanted name before it is whole: see `common.files`.
"""

from tandem.sinks.base import JsonLinesSink, Sink, frame_to_json
from tandem.sinks.drawn import FolderSink, PictureSink, VideoSink
from tandem.sinks.opening import open_sink

__all__ = [
    "FolderSink",
    "JsonLinesSink",
    "PictureSink",
    "Sink",
    "VideoSink",
    "frame_to_json",
    "open_sink",
]
