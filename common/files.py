"""Writes files so that they are either whole or absent: under another name, then moved in place."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterable, Iterator

from common.domain.errors import InvalidInputError

# With the suffixes that are added, the name stays below the limit of 255 bytes of file systems.
_STEM_CHARACTERS = 40
_MODE = 0o666


class Replacement:
    """A file that takes the wanted name once it is complete; until then the old file stays.

    A pipe or a terminal, which is no regular file, cannot be replaced, and is written to directly.

    Attributes:
        path: where to write to. The file exists, is hidden, in the same folder, and has the wanted
            suffix.
    """

    def __init__(self, wanted: Path, mode: int = _MODE) -> None:
        """Create the file beside the wanted one.

        Args:
            wanted: the name that it takes in the end.
            mode: its permissions, of which the process's mask takes some away.

        Raises:
            OSError: the folder, or a file of this name, is missing or cannot be written.
        """
        # The file that a link leads to is replaced, not the link.
        self._wanted = Path(os.path.realpath(str(wanted)))
        if self._wanted.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(wanted))
        exists = self._wanted.exists()
        if exists and not os.access(str(self._wanted), os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(wanted))
        self._direct = exists and not self._wanted.is_file()
        if self._direct:
            self.path = self._wanted
            return
        stem = self._wanted.stem[:_STEM_CHARACTERS]
        self.path = self._wanted.with_name(
            f".{stem}.{secrets.token_hex(4)}.part{self._wanted.suffix}"
        )
        os.close(os.open(str(self.path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))

    def complete(self) -> None:
        """Give the file its name; from here on it survives a power cut.

        Raises:
            OSError: it cannot be stored; what had the name before stays.
        """
        if self._direct:
            return
        descriptor = os.open(str(self.path), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(str(self.path), str(self._wanted))

    def discard(self) -> None:
        """Remove the file; what had the name before stays."""
        if not self._direct:
            with suppress(OSError):
                self.path.unlink()


@contextmanager
def replacing(wanted: Path, mode: int = _MODE) -> Iterator[Path]:
    """Yields a path to write to; the file takes the wanted name if the block ends without error.

    Raises:
        OSError: it cannot be written; what had the name before stays.
    """
    replacement = Replacement(wanted, mode)
    try:
        yield replacement.path
        replacement.complete()
    except BaseException:
        replacement.discard()
        raise


def replace_bytes(path: Path, content: bytes, mode: int = _MODE) -> None:
    """Write a whole file in what is one step for its readers.

    Args:
        path: where to.
        content: all of it.
        mode: the file's permissions, of which the process's mask takes some away.

    Raises:
        OSError: it cannot be written; what had the name before stays.
    """
    with replacing(path, mode) as beside:
        beside.write_bytes(content)


def replace_text(path: Path, content: str) -> None:
    """Write a whole file in UTF-8; see `replace_bytes`."""
    replace_bytes(path, content.encode("utf-8"))


def refuse_overwriting(output: Path, inputs: Iterable[Path]) -> None:
    """Make sure that the output does not overwrite an input, whatever their names and links.

    Raises:
        InvalidInputError: the output is one of the inputs.
    """
    for path in inputs:
        with suppress(OSError):
            if os.path.samefile(str(output), str(path)):
                raise InvalidInputError(
                    f"{output} is the input {path} itself, which would be lost: "
                    "name another file to write"
                )
