"""Files of runs: checkpoints, which are whole or absent, and the records of releases."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from common.domain.errors import ConfigurationError
from detr.errors import WeightsError
from detr.importing.reading import read_torch_file

CHECKPOINT_NAME = "checkpoint.pt"
FORMER_NAME = "checkpoint.former.pt"
AVERAGE_NAME = "average.pt"
BEST_NAME = "best.pt"

WEIGHTS_NAME, RECORD_NAME = "weights.safetensors", "record.json"


def save_checkpoint(folder: Path, content: dict[str, Any]) -> Path:
    """Write a checkpoint; the one before it is kept beside.

    A crash on the way leaves the former one in place, and what a disk loses later leaves that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT_NAME
    partial = _written(path, content)
    if path.exists():
        _keep(path)
    partial.replace(path)
    return path


def save_average(path: Path, content: dict[str, Any]) -> None:
    """Write what a release needs, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _written(path, content).replace(path)


def _written(path: Path, content: dict[str, Any]) -> Path:
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    return partial


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it.

    Raises:
        ConfigurationError: there is none, it is cut off, or it is not a checkpoint; where the one
            before it is whole, the message says so.
    """
    if not path.is_file():
        raise ConfigurationError(f"there is no checkpoint {path}.")
    try:
        return _read(path)
    except WeightsError as error:
        cause = str(error).removeprefix(f"{path} ")
        raise ConfigurationError(
            f"{path} is not a readable checkpoint: it {cause}{_way_back(path)}"
        ) from error


def read_record(record: Path) -> dict[str, Any]:
    """Return the content of `record.json`.

    Raises:
        ConfigurationError: there is none.
    """
    path = record / RECORD_NAME
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} is missing or is not JSON.") from error
    return content


def _read(path: Path) -> dict[str, Any]:
    content = read_torch_file(path)
    if not isinstance(content, dict) or not isinstance(content.get("step"), int):
        raise WeightsError(f"{path} is not a checkpoint of this training code.")
    return content


def _way_back(path: Path) -> str:
    former = path.with_name(FORMER_NAME)
    if path.name != CHECKPOINT_NAME or not former.is_file():
        return ""
    try:
        step = _read(former)["step"]
    except WeightsError:
        return ""
    return f" The one before it, {former} of step {step}, is whole: put it in its place to go on."


def _keep(path: Path) -> None:
    """Give a file a second name, in one step; it never has none."""
    former, unfinished = path.with_name(FORMER_NAME), path.with_name(f"{FORMER_NAME}.part")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(path, unfinished)
    except OSError:  # a file system without second names
        shutil.copy2(path, unfinished)
    unfinished.replace(former)
