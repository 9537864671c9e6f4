"""Where results go: pictures and videos with boxes drawn, JSON lines.

Nothing has its wanted name before it is whole: see `common.files`.
"""

from tandem.sinks.base import Sink
from tandem.sinks.lines import JsonLinesSink, frame_to_json
from tandem.sinks.opening import open_sink
from tandem.sinks.pictures import FolderSink, PictureSink
from tandem.sinks.video import VideoSink

__all__ = [
    "FolderSink",
    "JsonLinesSink",
    "PictureSink",
    "Sink",
    "VideoSink",
    "frame_to_json",
    "open_sink",
]
