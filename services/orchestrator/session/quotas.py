"""Holds the sessions of each identity to its quota.

A lossless stream over its quota is read no further until it is within it again: flow control slows
the client down, and nothing is lost. Of a live stream, frames over `frames_per_second` are answered
as dropped, since frames that wait would grow old; `bytes_per_second` slows it down as well.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Dict, Iterator, Optional

from common.domain.errors import ResourceExhaustedError
from common.security.identity import Identity
from common.security.quotas import NO_QUOTA, Quota, QuotaFile

# What was not used may be made up for within this time, so that frames need not come evenly.
_BURST_SECONDS = 1.0


class Meter:
    """How far a use is ahead of its rate, with the time passed in."""

    def __init__(self) -> None:
        """Nothing has been used."""
        self._even_at = float("-inf")
        self._per_second: Optional[float] = None

    def set_rate(self, per_second: Optional[float], now: float) -> None:
        """Hold what is ahead to this rate from now on; None: nothing is ahead."""
        ahead_seconds = self._even_at - now
        if self._per_second is not None and per_second != self._per_second and ahead_seconds > 0:
            share = 0.0 if per_second is None else self._per_second / per_second
            self._even_at = now + ahead_seconds * share
        self._per_second = per_second

    def take(self, amount: float, per_second: float, now: float) -> None:
        """Use an amount, at a time by any monotonic clock."""
        self.set_rate(per_second, now)
        self._even_at = max(self._even_at, now - _BURST_SECONDS) + amount / per_second

    def wait_seconds(self, now: float) -> float:
        """How long until the use is within its rate again; 0: it is."""
        return max(0.0, self._even_at - now)

    def is_forgotten(self, now: float) -> bool:
        """Whether what was used matters no more: a new meter would do the same."""
        return self._even_at <= now - _BURST_SECONDS


class Allowance:
    """What is left of one identity's quota; all of its sessions share it."""

    def __init__(self, owner: Optional[Identity] = None, file: Optional[QuotaFile] = None) -> None:
        """Begin with all of the quota; without an owner or a file there is no limit."""
        self.sessions = 0
        self._owner = owner
        self._file = file
        self._frames = Meter()
        self._bytes = Meter()

    @property
    def quota(self) -> Quota:
        """The quota as the file has it now."""
        if self._file is None or self._owner is None:
            return NO_QUOTA
        return self._file.of(self._owner)

    def is_unused(self, now: float) -> bool:
        """Whether a new allowance would do the same; `now` by `time.monotonic`."""
        meters = (self._frames, self._bytes)
        return not self.sessions and all(meter.is_forgotten(now) for meter in meters)

    def wait_seconds(self, *, live: bool) -> float:
        """How long a stream may read nothing more; 0: it may."""
        if self._file is None:
            return 0.0
        quota, now = self.quota, time.monotonic()
        self._bytes.set_rate(quota.bytes_per_second, now)
        self._frames.set_rate(quota.frames_per_second, now)
        for_bytes = self._bytes.wait_seconds(now)
        return for_bytes if live else max(for_bytes, self._frames.wait_seconds(now))

    def take(self, data_bytes: int, *, live: bool) -> None:
        """Take note of a frame that was read; of a live one `take_live_frame` asks."""
        if self._file is None:
            return
        quota, now = self.quota, time.monotonic()
        if quota.bytes_per_second is not None:
            self._bytes.take(data_bytes, quota.bytes_per_second, now)
        if quota.frames_per_second is not None and not live:
            self._frames.take(1, quota.frames_per_second, now)

    def take_live_frame(self) -> bool:
        """Take a frame of a live stream, if the quota has one left; returns whether it has."""
        per_second = self.quota.frames_per_second
        if per_second is None:
            return True
        now = time.monotonic()
        self._frames.set_rate(per_second, now)
        if self._frames.wait_seconds(now) > 0:
            return False
        self._frames.take(1, per_second, now)
        return True


UNLIMITED = Allowance()


class IdentityQuotas:
    """The allowance of each identity, while it has sessions or has lately used something."""

    def __init__(self, file: Optional[QuotaFile] = None) -> None:
        """Without a file there are no limits."""
        self._file = file
        self._allowances: Dict[Identity, Allowance] = {}

    def __len__(self) -> int:
        """How many identities something is kept of."""
        return len(self._allowances)

    @contextmanager
    def session(self, owner: Optional[Identity]) -> Iterator[Allowance]:
        """Count a session while it lasts.

        Raises:
            ResourceExhaustedError: its owner has as many as it may have.
        """
        if owner is None or self._file is None:
            yield UNLIMITED
            return
        self._forget_unused()
        allowance = self._allowances.setdefault(owner, Allowance(owner, self._file))
        most = allowance.quota.sessions
        if most is not None and allowance.sessions >= most:
            raise ResourceExhaustedError(f"{most} sessions of {owner} are open, which is its quota")
        allowance.sessions += 1
        try:
            yield allowance
        finally:
            allowance.sessions -= 1

    def _forget_unused(self) -> None:
        now = time.monotonic()
        for owner in [each for each, kept in self._allowances.items() if kept.is_unused(now)]:
            del self._allowances[owner]
