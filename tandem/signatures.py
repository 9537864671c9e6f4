"""By whose key bundles have to be signed on this machine."""

from __future__ import annotations

import os
from pathlib import Path

REQUIRE_SIGNATURE_VARIABLE = "TANDEM_REQUIRE_SIGNATURE"
"""Environment variable with the public key's file, for commands, services and `LocalDetector`."""


def required_key(given: Path | str | None = None) -> Path | None:
    """The public key that bundles have to be signed by: the one given, or the environment's.

    None: bundles need not be signed.
    """
    told = given or os.environ.get(REQUIRE_SIGNATURE_VARIABLE)
    return Path(told) if told else None
