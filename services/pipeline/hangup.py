"""SIGHUP: what daemons read their files anew for, and what a terminal sends when it is closed."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Callable


def on_hangup(reload: Callable[[], None]) -> None:
    """Call `reload` at SIGHUP; but end the service in good order if it has lost its terminal."""
    had_terminal = _has_terminal()

    def follow() -> None:
        if had_terminal and not _has_terminal():
            signal.raise_signal(signal.SIGTERM)
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, follow)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
