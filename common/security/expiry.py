"""Certificates that end soon, in words."""

from __future__ import annotations

from typing import Iterator, Sequence

from common.security.certificates import Certificate

EXPIRING_DAYS = 30
"""A certificate that is valid for less than so long is worth a warning."""

_DAY_SECONDS = 86_400.0


def expiry_warnings(
    what: str, certificates: Sequence[Certificate], now_seconds: float
) -> Iterator[str]:
    """A sentence on the first of some certificates to end, if it ends soon or has.

    Args:
        what: these are, such as `the authority of clients`.
        certificates: to look at; of none there is nothing to say.
        now_seconds: the time, in seconds since 1970.
    """
    left = min((each.expires_at_seconds - now_seconds for each in certificates), default=None)
    if left is None:
        return
    if left <= 0:
        yield f"{what} has expired"
    elif left < EXPIRING_DAYS * _DAY_SECONDS:
        yield f"{what} expires in {left // _DAY_SECONDS:.0f} days"
