"""The error tree.

Errors of the caller and errors of the system stand on two branches, since they are answered,
logged and retried differently. `common.wire.errors` maps each leaf to one gRPC status.
"""

from __future__ import annotations


class TandemError(Exception):
    """Base of every error that Tandem raises on purpose; its text is fit to be shown to a user."""


class CallerError(TandemError):
    """The request is at fault; repeating it unchanged fails again."""


class InvalidInputError(CallerError):
    """A value is malformed: an undecodable image, a wrong size, a frame id out of order."""


class PreconditionError(CallerError):
    """The request does not fit the system's state: another bundle, an unknown node."""


class AccessDeniedError(CallerError):
    """The server does not know the caller, or lets nobody of its role do that; told by clients."""


class ConfigurationError(CallerError):
    """Settings, a configuration file or a bundle are wrong; raised at start, before serving."""


class ServiceError(TandemError):
    """The system is at fault; the same request may succeed later."""


class ReferenceMissingError(ServiceError):
    """Latents refer to a frame that the receiver does not hold; coded alone they would decode."""


class UnavailableError(ServiceError):
    """Nothing can serve the request now: a peer is unavailable or drains. Retryable."""


class ResourceExhaustedError(ServiceError):
    """A limit on sessions, message size or memory is reached."""


class InternalError(ServiceError):
    """Something failed inside a service, or a peer's answer makes no sense; the log says more."""


class EngineError(InternalError):
    """An engine failed to load or to run; the cause is in the log, not in the answer."""


class UnsupportedGraphError(EngineError):
    """An engine can never run a graph; the text says why, as by an operator, and what to do."""


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
