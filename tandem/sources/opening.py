"""What a user named, opened as what it is."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from common.domain.errors import InvalidInputError
from common.domain.redaction import masked, masked_url
from tandem.pictures import JPEG_QUALITY
from tandem.sources.base import (
    DEFAULT_RECONNECT_SECONDS,
    Source,
    SourceOptions,
    Tell,
    untold,
)
from tandem.sources.containers import Readable
from tandem.sources.ffmpeg import FFmpegReader
from tandem.sources.moving import LiveSource, VideoSource
from tandem.sources.readers import SILENCE_SECONDS, CameraReader, PipeFile
from tandem.sources.stills import FolderSource, PictureSource, is_picture, readable_name
from tandem.sources.urls import SCHEMES, refuse_malformed, scheme_of

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# Of Video4Linux devices.
_VIDEO_MAJOR = 81
_MOST_CAMERAS = 1000


def open_source(
    text: str,
    jpeg_quality: int = JPEG_QUALITY,
    *,
    live: bool | None = None,
    reconnect_seconds: float = DEFAULT_RECONNECT_SECONDS,
    tell: Tell = untold,
) -> Source:
    """Open what a user named; blocks while a network stream connects.

    Args:
        text: path of a picture, folder, video, pipe or camera; a camera's number; or a URL.
        jpeg_quality: see `SourceOptions`, as for the others.
        live: likewise.
        reconnect_seconds: likewise.
        tell: likewise.

    Raises:
        InvalidInputError: there is no such thing, or it holds neither picture nor video.
        UnavailableError: the camera or the stream does not answer.
    """
    if not text:
        raise InvalidInputError("no source is named: it is an empty text")
    options = SourceOptions(jpeg_quality, live, reconnect_seconds, tell)
    scheme = _SCHEME.match(text)
    if scheme is not None and scheme[1].lower() != "file":
        url = scheme[1].lower() + text[scheme.end(1) :]
        return _open_url(url, options)
    path = Path(text) if scheme is None else _path_of_url(text[scheme.end() :])
    mode = _mode(path)
    if mode is None and text.isdecimal():
        number = int(text) if len(text) < 10 else _MOST_CAMERAS
        return _open_camera(number, f"camera {text}", options)
    name = readable_name(text)
    if mode is None:
        raise InvalidInputError(f"there is no file, folder or camera named {masked(name)}")
    if not os.access(path, os.R_OK):
        raise InvalidInputError(f"{name} cannot be read: permission denied")
    if stat.S_ISCHR(mode):
        if os.major(path.stat().st_rdev) != _VIDEO_MAJOR:
            raise InvalidInputError(f"{name} is a device, but no camera")
        return _open_camera(str(path), f"camera {name}", options)
    if stat.S_ISDIR(mode):
        return FolderSource(path)
    if stat.S_ISFIFO(mode):
        return VideoSource(FFmpegReader(PipeFile(path, name), name), name, options)
    if not stat.S_ISREG(mode):
        kind = "a socket" if stat.S_ISSOCK(mode) else "a disk or another device"
        raise InvalidInputError(f"{name} is {kind}, which holds neither picture nor video")
    return _open_file(path, options)


def _mode(path: Path) -> int | None:
    """What is there, links followed; None for nothing."""
    try:
        return path.stat().st_mode
    except PermissionError:
        raise InvalidInputError(
            f"{readable_name(str(path))} cannot be read: permission denied"
        ) from None
    except (OSError, ValueError):
        return None


def _path_of_url(rest: str) -> Path:
    named = Path(rest.removeprefix("localhost"))
    return named if _mode(named) is not None else Path(unquote(str(named)))


def _open_file(path: Path, options: SourceOptions) -> Source:
    name = readable_name(path.name)
    try:
        if path.stat().st_size == 0:
            raise InvalidInputError(f"{readable_name(str(path))} is empty")
        if is_picture(path):
            return PictureSource(path, name)
    except OSError as error:
        raise _unreadable(path, error) from error

    def opened() -> FFmpegReader:
        try:
            # FFmpeg takes no name that is no text.
            file: str | Readable = str(path) if name == path.name else path.open("rb")
        except OSError as error:
            raise _unreadable(path, error) from error
        return FFmpegReader(file, name)

    return VideoSource(opened(), name, options, (path,), reopen=opened)


def _unreadable(path: Path, error: OSError) -> InvalidInputError:
    return InvalidInputError(f"{readable_name(str(path))} cannot be read: {error.strerror}")


def _open_url(url: str, options: SourceOptions) -> Source:
    name = masked_url(readable_name(url))
    if scheme_of(url) not in SCHEMES:
        raise InvalidInputError(
            f"{name} is no kind of URL that can be read; known: {', '.join(SCHEMES)}"
        )
    try:
        refuse_malformed(url)
    except InvalidInputError as error:
        raise InvalidInputError(f"{name} leads to nobody: {error}") from error

    def connect(seconds: float) -> FFmpegReader:
        return FFmpegReader(url, name, seconds)

    reader = connect(SILENCE_SECONDS)
    if reader.finite and not (options.live and reader.frame_count is None):
        return VideoSource(reader, name, options, reopen=lambda: connect(SILENCE_SECONDS))
    return LiveSource(connect, name, options, reader)


def _open_camera(device: int | str, name: str, options: SourceOptions) -> Source:
    def connect(_seconds: float) -> CameraReader:
        return CameraReader(device, name)

    return LiveSource(connect, name, options)
