"""Whose frames a backbone serves, whatever an orchestrator is configured to send."""

from __future__ import annotations

from typing import FrozenSet, Optional

from common.domain.errors import PreconditionError
from common.security.identity import Identity


class FramePlaces:
    """The places whose frames a backbone serves."""

    def __init__(self, node: str, places: Optional[FrozenSet[str]]) -> None:
        """Serve the frames of these places.

        Args:
            node: that the backbone runs on.
            places: nodes, or `ORCHESTRATOR`; None: all.
        """
        self._node = node
        self._places = places

    def require(self, frames_from: str, caller: Optional[Identity]) -> None:
        """Refuse a stream before it brings a frame.

        Args:
            frames_from: what the stream's opening says of its frames' place; empty: nothing.
            caller: who opens it, by a certificate whose name is that of its machine; None without
                TLS, where the opening's word has to do.

        Raises:
            PreconditionError: frames of that place, or of this caller's, are not served here.
        """
        if self._places is None:
            return
        if frames_from not in self._places:
            place = f"those of {frames_from!r}" if frames_from else "those of an unknown place"
        elif caller is not None and caller.name not in self._places:
            place = f"those of {str(caller)!r}, whatever it says of them"
        else:
            return
        served = ", ".join(sorted(self._places))
        raise PreconditionError(
            f"backbone on {self._node} serves only frames of {served}, and not {place}"
        )
