"""Names that become labels of metrics: a bounded number, whatever peers call themselves."""

from __future__ import annotations

import re
from typing import Iterable, Set

OTHER = "other"
"""Label of all names beyond those that are known."""

_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,:-]*")
_MAX_CHARACTERS = 150


class LabelNames:
    """Knows some names, and learns a few more, the first to come."""

    def __init__(self, known: Iterable[str] = (), room: int = 0) -> None:
        """Know the names of the configuration, and learn up to `room` others."""
        self._known: Set[str] = set(known)
        self._room = room

    def label(self, name: str) -> str:
        """The name itself if it is known, else `OTHER`."""
        if name in self._known:
            return name
        if self._room and len(name) <= _MAX_CHARACTERS and _WELL_FORMED.fullmatch(name):
            self._room -= 1
            self._known.add(name)
            return name
        return OTHER
