"""Checkpoints that are whole or absent, and hold all that resuming needs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from common.domain.errors import ConfigurationError

CHECKPOINT_NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, content: dict[str, Any]) -> Path:
    """Write a checkpoint; a crash on the way leaves the former one in place."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT_NAME
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises:
        ConfigurationError: there is none, or it is not a checkpoint.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no checkpoint {path}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ConfigurationError(f"{path} is not a readable checkpoint.") from error
    if not isinstance(content, dict) or "step" not in content:
        raise ConfigurationError(f"{path} is not a checkpoint of this training code.")
    return content
