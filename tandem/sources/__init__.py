"""Where frames come from: a picture, a folder, a video file, a camera, a network stream."""

from tandem.sources.base import (
    DEFAULT_RECONNECT_SECONDS,
    Source,
    SourceFrame,
    SourceInfo,
    SourceKind,
    Tell,
    VideoForm,
    played,
    untold,
)
from tandem.sources.opening import open_source
from tandem.sources.stills import PICTURE_SUFFIXES

__all__ = [
    "DEFAULT_RECONNECT_SECONDS",
    "PICTURE_SUFFIXES",
    "Source",
    "SourceFrame",
    "SourceInfo",
    "SourceKind",
    "Tell",
    "VideoForm",
    "open_source",
    "played",
    "untold",
]
