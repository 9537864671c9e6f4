"""A pipe as a file that FFmpeg reads from, without waiting for ever."""

from __future__ import annotations

import io
import os
import select
from pathlib import Path

from common.domain.errors import InvalidInputError, UnavailableError
from tandem.sources.reading import SILENCE_SECONDS


class PipeFile:
    """The reading end of a named pipe, or of one that a shell made."""

    def __init__(self, path: Path, name: str) -> None:
        """Open; does not wait for the writer.

        Raises:
            InvalidInputError: it cannot be opened.
        """
        self._name = name
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise InvalidInputError(f"{name} cannot be read: {error.strerror}") from error
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; none once the writer has closed its end.

        Raises:
            UnavailableError: nobody writes into it.
        """
        if not self._poll.poll(1000 * SILENCE_SECONDS):
            raise UnavailableError(f"nothing came out of {self._name} for {SILENCE_SECONDS:.0f} s")
        return os.read(self._descriptor, size if size > 0 else io.DEFAULT_BUFFER_SIZE)

    def close(self) -> None:
        """Close the reading end."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
