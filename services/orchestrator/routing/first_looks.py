"""Waiting at the start for what the servers tell, so that the first frames know of it."""

import asyncio
from typing import Iterable

# A stage that is slow to tell, or whose machine does not even refuse a connection, must not hold
# back the others.
_MOST_SECONDS = 2.0


async def wait_for_first_looks(told: Iterable[asyncio.Event]) -> None:
    """Wait until each is set, for a bounded time."""
    looks = [asyncio.ensure_future(look.wait()) for look in told]
    if looks:
        _, late = await asyncio.wait(looks, timeout=_MOST_SECONDS)
        for look in late:
            look.cancel()
