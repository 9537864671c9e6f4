"""A sink for the file that a user named."""

from __future__ import annotations

from pathlib import Path

from common.domain.errors import InvalidInputError
from common.files import refuse_overwriting
from tandem.sinks.base import JsonLinesSink, Sink, told
from tandem.sinks.drawn import (
    DEFAULT_FRAMES_PER_SECOND,
    PICTURE_SUFFIXES,
    FolderSink,
    PictureSink,
    VideoSink,
)
from tandem.sources import SourceInfo, SourceKind

VIDEO_SUFFIXES = {".mp4", ".mkv", ".mov"}
JSON_SUFFIXES = {".json", ".jsonl", ".ndjson"}


def open_sink(path: Path, info: SourceInfo) -> Sink:
    """A sink for a source, chosen by the name of the file that it writes.

    Args:
        path: `.jpg` or `.png`: a picture; `.mp4`, `.mkv` or `.mov`: a video; `.json` or `.jsonl`:
            a line of JSON a frame; a folder, or a name without a suffix: a folder of pictures.
        info: of the source.

    Raises:
        InvalidInputError: the suffix is unknown, does not suit the source, or the file is the
            source's own.
        UnavailableError: the file cannot be written.
    """
    if len(path.parts) > 1 and path.parts[0].endswith(":") and not Path(path.parts[0]).exists():
        # Without the URL itself, which may hold a password.
        raise InvalidInputError("the output is a URL: name a file or a folder")
    suffix = path.suffix.lower()
    is_folder = path.is_dir() or not suffix
    for written in [path / each.name for each in info.paths] if is_folder else [path]:
        refuse_overwriting(written, info.paths)
    with told(path):
        if is_folder:
            path.mkdir(parents=True, exist_ok=True)
            return FolderSink(path, frozenset(each.name for each in info.paths))
        if suffix not in PICTURE_SUFFIXES | VIDEO_SUFFIXES | JSON_SUFFIXES:
            known = ", ".join(sorted(PICTURE_SUFFIXES | VIDEO_SUFFIXES | JSON_SUFFIXES))
            raise InvalidInputError(f"{path}: unknown kind of file; known: {known}, or a folder")
        if suffix in PICTURE_SUFFIXES and info.kind is not SourceKind.PICTURE:
            raise InvalidInputError(
                f"{path} is one picture, {info.name} has many: name a folder or a video instead"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
    if suffix in JSON_SUFFIXES:
        return JsonLinesSink(path)
    if suffix in VIDEO_SUFFIXES:
        return VideoSink(path, info.frames_per_second or DEFAULT_FRAMES_PER_SECOND)
    return PictureSink(path)
