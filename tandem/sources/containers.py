"""Files, pipes and addresses, opened by FFmpeg as what they are."""

from __future__ import annotations

import socket
from typing import Protocol
from urllib.parse import urlsplit

import av

from common.domain.errors import InvalidInputError, UnavailableError
from common.domain.redaction import masked_url
from tandem.sources.base import JPEG_VIDEO_SUFFIXES
from tandem.sources.readers import SILENCE_SECONDS
from tandem.sources.stills import kind_of_brands, refusal

# Somebody answers, but with something else.
_NO_VIDEO = (av.error.InvalidDataError, av.error.PatchWelcomeError, av.error.DecoderNotFoundError)


class Readable(Protocol):
    """What FFmpeg can read from, beside a path or a URL."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def reason(error: Exception) -> str:
    """FFmpeg's words, without the address, which may hold a password."""
    return getattr(error, "strerror", None) or type(error).__name__


def open_container(
    file: str | Readable, name: str, connect_seconds: float | None
) -> av.container.InputContainer:
    """Open to read; see `FFmpegReader`."""
    is_remote = connect_seconds is not None
    # Over TCP a lossy link delays an RTSP camera's pictures; over UDP it smears them.
    is_rtsp = isinstance(file, str) and is_remote and file.startswith("rtsp")
    # Otherwise a colon in a file's name makes a protocol of what stands before it.
    where = f"file:{file}" if isinstance(file, str) and not is_remote else file
    # By its content it would be taken for one picture.
    is_jpeg_video = not is_remote and name.lower().endswith(JPEG_VIDEO_SUFFIXES)
    try:
        return av.open(
            where,
            "r",
            format="mjpeg" if is_jpeg_video else None,
            options={"rtsp_transport": "tcp"} if is_rtsp else {},
            timeout=(connect_seconds, SILENCE_SECONDS) if connect_seconds is not None else None,
            metadata_errors="replace",
        )
    except av.error.ExitError as error:
        raise UnavailableError(
            f"{name} does not answer: nothing to see for {connect_seconds:.0f} s"
        ) from quotable(error, is_remote)
    except (av.FFmpegError, OSError, ValueError) as error:
        if is_remote and not isinstance(error, _NO_VIDEO):
            cause = _unknown_host(where) if isinstance(where, str) else None
            raise UnavailableError(f"{name} does not answer: {cause or reason(error)}") from None
        raise InvalidInputError(f"{name} is neither a picture nor a video") from quotable(
            error, is_remote
        )


def quotable(error: Exception, is_remote: bool) -> Exception | None:
    """The cause for a traceback; none of a URL, since FFmpeg's own words repeat it."""
    return None if is_remote else error


def _unknown_host(url: str) -> str | None:
    """That the name of its host is not found, which FFmpeg calls an input/output error."""
    try:
        host = urlsplit(url).hostname
        # Before a slash in a password stands what is taken for a host.
        if host and host in masked_url(url).lower():
            socket.getaddrinfo(host, None)
    except socket.gaierror:
        return f"the name {host} is not found"
    except ValueError:  # no address at all, which FFmpeg has said
        pass
    return None


def video_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    """The first video in it.

    Raises:
        InvalidInputError: there is none, or it is of a kind that is not taken.
    """
    tags = container.metadata
    brands = tags.get("compatible_brands", "").encode("utf-8", "replace")
    kind = kind_of_brands(
        tags.get("major_brand", "").encode("utf-8", "replace"),
        [brands[at : at + 4] for at in range(0, len(brands), 4)],
    )
    if kind is not None:
        raise InvalidInputError(refusal(name, kind))
    if not container.streams.video:
        raise InvalidInputError(f"{name} is neither a picture nor a video")
    stream = container.streams.video[0]
    # Though the type says otherwise.
    if getattr(stream, "codec_context", None) is None:
        raise InvalidInputError(f"{name} is a video in a format that is not known")
    return stream
