"""Words from elsewhere, cut before they are repeated."""

from __future__ import annotations

MAX_ECHOED_BYTES = 400
"""Most bytes of a text that is written to a log or told to a peer."""


def shortened(text: str, most_bytes: int = MAX_ECHOED_BYTES) -> str:
    """The text itself, or its beginning and an ellipsis where it is too long to be repeated.

    Counted are the bytes of its ASCII form with escapes, which both a line of JSON and the status
    of a call come near to.
    """
    start = text[: most_bytes + 1]
    if len(start) <= most_bytes and start.isascii() and start.isprintable():
        return text
    size = 0
    for index, character in enumerate(start):
        size += 1 if character.isascii() and character.isprintable() else _escaped_bytes(character)
        if size > most_bytes:
            return start[:index] + "..."
    return text


def _escaped_bytes(character: str) -> int:
    return 6 if ord(character) <= 0xFFFF else 12
