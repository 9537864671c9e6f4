"""Files that are read again when they change, and keep their last good content until then."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Generic, List, Optional, Sequence, Tuple, TypeVar

from common.domain.errors import ConfigurationError, InvalidInputError
from common.yaml_files import parse_yaml

T = TypeVar("T")

# A file that was written so recently may have changed without a change of its times.
_SETTLED_SECONDS = 2.0
_MAX_BYTES = 4 << 20

_Stamps = Tuple[Tuple[int, int, int], ...]


class WatchedFiles(Generic[T]):
    """What several files say together, read again when one of them has changed.

    While they say nothing that makes sense, such as a new certificate beside the key of the old
    one, the last good content stays, and the log says so once. Safe to use from any thread.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[Dict[Path, bytes]], T]) -> None:
        """Read the files for the first time.

        Args:
            paths: of all files.
            read: makes the content of what the files hold; raises `InvalidInputError` if it cannot.

        Raises:
            ConfigurationError: a file cannot be read, or makes no sense.
        """
        self._paths = tuple(paths)
        self._read = read
        self._lock = threading.Lock()
        self._settled: Optional[_Stamps] = None
        # What the last look has found; None: nobody has looked.
        self._found: Optional[Dict[Path, bytes]] = None
        try:
            self._look()
            self._content = read(self._found or {})
        except InvalidInputError as error:
            raise ConfigurationError(str(error)) from error

    @property
    def content(self) -> T:
        """The content now: the same object as before unless a file has changed."""
        with self._lock:
            try:
                if self._look():
                    self._content = self._read(self._found or {})
                    _log().info("files read again", files=[str(path) for path in self._paths])
            except InvalidInputError as error:
                _log().warning("files keep their old content", error=str(error))
            return self._content

    def _look(self) -> bool:
        """Read what has changed; returns whether anything has.

        Raises:
            InvalidInputError: a file cannot be read; raised once for each change.
        """
        stamps = self._stamps()
        if stamps is not None and stamps == self._settled:
            return False
        found: Dict[Path, bytes] = {}
        faults: List[str] = []
        for path in self._paths:
            try:
                found[path] = _bytes_of(path)
            except OSError as error:
                faults.append(f"cannot read {path}: {error.strerror}")
        newest = max((stamp[0] for stamp in stamps or ()), default=0) / 1e9
        is_settled = stamps is not None and time.time() - newest > _SETTLED_SECONDS
        self._settled = stamps if is_settled else None
        if found == self._found:
            return False
        self._found = found
        if faults:
            raise InvalidInputError("; ".join(faults))
        return True

    def _stamps(self) -> Optional[_Stamps]:
        try:
            stats = [os.stat(str(path)) for path in self._paths]
        except OSError:
            return None
        return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)


def entry_of_yaml(path: Path, data: bytes, key: str) -> Any:
    """What a YAML file holds under its only key; None if that is not its only key.

    Args:
        path: for errors.
        data: the file's content.
        key: the name of the key.

    Raises:
        InvalidInputError: it is not YAML; no line of it is repeated.
    """
    try:
        content = parse_yaml(data.decode(), str(path))
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path} is not YAML: it is no text in UTF-8") from None
    except ConfigurationError as error:
        raise InvalidInputError(str(error)) from None
    return content[key] if isinstance(content, dict) and set(content) == {key} else None


def _log() -> Any:
    # Imported late: programs that use the library load this module, and structlog loads rich.
    import structlog

    return structlog.get_logger()


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise OSError(0, f"it is larger than {_MAX_BYTES >> 20} MiB")
    return data
