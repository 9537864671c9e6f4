"""How large the messages of a stream are likely to be, as its caller tells with the call.

A server keeps room for a message of any size until the first frame of a stream has come, and has
few such places. A caller that knows its frames says so in the call's metadata, and needs none: its
stream is served at once, however many others begin with it. What is told is an expectation and no
promise, as the sizes of the frames before are: a larger message is read, and counted as it is.
"""

from __future__ import annotations

from typing import Any, Iterable, Optional, Tuple

MESSAGE_BYTES_KEY = "tandem-message-bytes"
"""Metadata of a call that streams frames: the size of the largest message to come, in bytes."""

_MOST_DIGITS = 12


def message_bytes_metadata(count: int) -> Tuple[Tuple[str, str], ...]:
    """What a call tells, if messages of up to so many bytes are to come; nothing if it is 0."""
    return ((MESSAGE_BYTES_KEY, str(count)),) if count > 0 else ()


def told_message_bytes(metadata: Iterable[Tuple[str, Any]]) -> Optional[int]:
    """The bytes that a call's metadata tells; None if it tells none, or no number."""
    for name, value in metadata:
        if name == MESSAGE_BYTES_KEY:
            is_number = isinstance(value, str) and value.isascii() and value.isdigit()
            return int(value) if is_number and len(value) <= _MOST_DIGITS else None
    return None
