"""Files to named tensors, without ever running code from them."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detr.errors import WeightsError

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
CONFIG_NAME = "config.json"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a weights file, or a Hugging Face folder.

    Args:
        path: a `.pth` (official layout: the tensors under `model`), a `.safetensors`, or a folder
            with `model.safetensors` or its shards and their index.

    Raises:
        WeightsError: it cannot be read, or is a pickle that holds more than data.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise WeightsError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_pth(path)


def read_config(path: Path) -> dict[str, Any]:
    """The Hugging Face `config.json` in or beside `path`; empty where there is none.

    Raises:
        WeightsError: it is there, but is not a JSON object.
    """
    config_path = (path if path.is_dir() else path.parent) / CONFIG_NAME
    if path.suffix == ".pth" or not config_path.is_file():
        return {}
    return _read_json_object(config_path)


def _read_folder(folder: Path) -> dict[str, Tensor]:
    if (folder / SINGLE_NAME).is_file():
        return _read_safetensors(folder / SINGLE_NAME)
    if not (folder / INDEX_NAME).is_file():
        raise WeightsError(f"{folder} has neither {SINGLE_NAME} nor {INDEX_NAME}")
    weight_map = _read_json_object(folder / INDEX_NAME).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{folder / INDEX_NAME} has no weight_map")
    tensors: dict[str, Tensor] = {}
    for shard in sorted({str(name) for name in weight_map.values()}):
        if Path(shard).name != shard:
            raise WeightsError(f"{folder / INDEX_NAME} names a file outside its folder: {shard}")
        if not (folder / shard).is_file():
            raise WeightsError(f"{folder / shard}, which {INDEX_NAME} names, does not exist")
        tensors.update(_read_safetensors(folder / shard))
    absent = sorted(set(weight_map) - set(tensors))
    if absent:
        raise WeightsError(f"{folder}: the shards lack {absent[0]}, which {INDEX_NAME} names")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
        # The official training script stores its arguments too; a Namespace only holds them.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is refused: it is not a checkpoint, or it holds code or objects that loading "
            "would run; save its tensors alone, as torch.save({'model': model.state_dict()}, path)"
        ) from error
    # On bytes that are no pickle the unpickler raises whatever its opcodes happen to run into.
    except Exception as error:
        raise WeightsError(
            f"{path} is not a readable checkpoint ({type(error).__name__})"
        ) from error
    tensors = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not tensors:
        raise WeightsError(f"{path} holds no tensors under 'model'")
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{path}: {name} is a {type(value).__name__}, not a tensor")
    return tensors


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is not a JSON object")
    return content
