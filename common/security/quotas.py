"""What each identity may use: a file, read again when it changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from common.domain.errors import InvalidInputError
from common.security.identity import Identity
from common.security.watched import WatchedFiles, entry_of_yaml

_EVERY_NAME = "*"


@dataclass(frozen=True)
class Quota:
    """What one identity may use, over all of its streams; None: no limit.

    Attributes:
        sessions: streams of frames that are open at a time.
        frames_per_second: frames that are taken for detection.
        bytes_per_second: bytes of images that are read.
    """

    sessions: Optional[int] = None
    frames_per_second: Optional[float] = None
    bytes_per_second: Optional[float] = None


NO_QUOTA = Quota()
_KEYS = tuple(NO_QUOTA.__dataclass_fields__)


class QuotaFile:
    """Quotas by identity, or by role for all identities without one of their own."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigurationError: it cannot be read, or makes no sense.
        """
        self._files = WatchedFiles([path], lambda held: _read_quotas(path, held[path]))

    def of(self, identity: Identity) -> Quota:
        """The quota of an identity now."""
        quotas = self._files.content
        of_role = quotas.get(f"{identity.role.value}/{_EVERY_NAME}", NO_QUOTA)
        return quotas.get(str(identity), of_role)


def _read_quotas(path: Path, data: bytes) -> Mapping[str, Quota]:
    told = entry_of_yaml(path, data, "quotas")
    if not isinstance(told, dict):
        raise InvalidInputError(f"{path} has to hold quotas by identity under quotas, only")
    quotas: Dict[str, Quota] = {}
    for name, limits in told.items():
        try:
            identity = Identity.parse(str(name))
            # Neither would the quota of `client/cam*` be anybody's, nor which of two be seen.
            if _EVERY_NAME in identity.name and identity.name != _EVERY_NAME:
                raise InvalidInputError(f"{_EVERY_NAME} stands for a whole name, or for nothing")
            if str(identity) in quotas:
                raise InvalidInputError("it has a quota already")
            quotas[str(identity)] = _quota(limits)
        except InvalidInputError as error:
            raise InvalidInputError(f"{path}: {str(name)[:100]}: {error}") from None
    return quotas


def _quota(limits: Any) -> Quota:
    if not isinstance(limits, dict) or not set(limits) <= set(_KEYS):
        raise InvalidInputError(f"a quota has any of {', '.join(_KEYS)}")
    for key, value in limits.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 < value < math.inf:
            raise InvalidInputError(f"{key} has to be a positive number")
    sessions = limits.get("sessions")
    if sessions is not None and not isinstance(sessions, int):
        raise InvalidInputError("sessions has to be a whole number")
    return Quota(**limits)
