"""Whether this machine has hardware that decodes video."""

from __future__ import annotations

import shutil
import subprocess

LAUNCHER = "gst-launch-1.0"
"""GStreamer's program that runs a pipeline."""


def has_jetson_decoder() -> bool:
    """Whether GStreamer and the hardware decoder are installed here; takes up to seconds."""
    inspector = shutil.which("gst-inspect-1.0")
    if inspector is None or shutil.which(LAUNCHER) is None:
        return False
    try:
        asked = subprocess.run(
            [inspector, "--exists", "nvv4l2decoder"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
