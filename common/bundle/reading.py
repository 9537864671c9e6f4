"""Reads a file of a bundle's folder, and nothing but that."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from common.domain.errors import ConfigurationError

MOST_MANIFEST_BYTES = 4 << 20
"""Of `bundle.json`: a calibration of all channels takes a twentieth of it."""
MOST_FILE_BYTES = (2 << 30) - 1
"""Of any other file: protobuf, and so ONNX, has no larger messages."""


def is_plain_name(name: str) -> bool:
    """Whether this names a file directly in a folder, and nothing above it or hidden."""
    return (
        0 < len(name) <= 255
        and name.isprintable()
        and not name.startswith(".")
        and "/" not in name
        and "\\" not in name
    )


def read_inside(folder: Path, name: str, most_bytes: int = MOST_FILE_BYTES) -> bytes:
    """The content of one of a folder's own files, read once.

    A symbolic link is followed within the folder, as Kubernetes mounts files, and not out of it. A
    pipe or a device is not waited for.

    Args:
        folder: of the bundle.
        name: of the file.
        most_bytes: a larger file is refused before it is read.

    Raises:
        ConfigurationError: there is no such regular file, it is too large or cannot be read; the
            sentence begins with the name.
    """
    if not is_plain_name(name):
        raise ConfigurationError(f"{name!r} is no file directly in the bundle's folder")
    top = os.path.realpath(str(folder))
    path = os.path.realpath(os.path.join(top, name))
    if not path.startswith(os.path.join(top, "")):
        raise ConfigurationError(
            f"{name} is a link out of the bundle's folder: copy the file there"
        )
    try:
        # O_NOFOLLOW: a link that took the file's place just now. O_NONBLOCK: a pipe without writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{name} is missing") from error
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}") from error
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise ConfigurationError(f"{name} is no regular file")
    with os.fdopen(descriptor, "rb") as file:
        content = b"" if facts.st_size > most_bytes else file.read(most_bytes + 1)
    if facts.st_size > most_bytes or len(content) > most_bytes:
        raise ConfigurationError(f"{name} is larger than {most_bytes} bytes")
    return content
