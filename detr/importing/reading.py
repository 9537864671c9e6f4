"""Weights files of all kinds to named tensors, without ever running code from them.

The first bytes of a file tell what it is, not its name: people rename files, and downloads fail.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from common.bundle.folder import MANIFEST_NAME
from detr.errors import WeightsError
from detr.importing.unwrapping import Unwrapped, named_tensors, unwrap

SAFETENSORS_NAME = "model.safetensors"
SINGLE_NAMES = (SAFETENSORS_NAME, "pytorch_model.bin")
MOST_WEIGHT_BYTES = 8 << 30
"""Of the families whose weights are safetensors alone; the largest has 0.5 GB."""
MOST_CONFIG_BYTES = 4 << 20
"""Of a JSON file beside weights."""
INDEX_SUFFIX = ".index.json"
CONFIG_NAME = "config.json"

_HEAD_BYTES = 512
_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.")
# What a pickle or an archive of torch begins with: protocol 2 and later, and a ZIP archive.
_TORCH_MAGIC = (b"\x80", b"PK\x03\x04")
_ARCHIVES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_SCALAR: Any = np.float64(0).__reduce__()[0]
# They only hold values. The official training script stores its arguments, which may have paths;
# others store the best AP so far, as a number of numpy's, whose module had another name before 2.0.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]


def read_weights(path: Path) -> Unwrapped:
    """Read a weights file, or a Hugging Face folder.

    Args:
        path: a file of torch's or a safetensors file, whatever its name, the index of shards, or a
            folder with `model.safetensors`, `pytorch_model.bin`, or shards of either.

    Raises:
        WeightsError: it is not there, is something else, is cut off or damaged, or is a pickle that
            holds more than data.
    """
    if path.is_dir():
        return _read_folder(path)
    if path.name.endswith(INDEX_SUFFIX) and path.is_file():
        return unwrap(_read_shards(path), path)
    head = _head(path)
    shard = _SHARD.search(path.name)
    if shard and int(shard[1]) > 1:
        raise WeightsError(f"{path} is one of {int(shard[1])} shards: give their folder.")
    if _is_safetensors(head):
        return unwrap(_read_safetensors(path), path)
    return unwrap(read_torch_file(path), path)


def read_torch_file(path: Path) -> Any:
    """Return what a file of torch's holds, without running any of it.

    Raises:
        WeightsError: as `read_weights`.
    """
    head = _head(path)
    if not head.startswith(_TORCH_MAGIC):
        raise WeightsError(
            f"{path} holds no weights: it is neither a safetensors file nor torch's."
        )
    try:
        # A path would be judged by its suffix.
        with torch.serialization.safe_globals(_HARMLESS), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"{refused[1]}, which loading would run" if refused else "code or objects"
        raise WeightsError(
            f"{path} is refused: it is not a checkpoint, or it holds {what}; save its tensors "
            "alone, as torch.save({'model': model.state_dict()}, path)."
        ) from error
    # On damaged bytes torch raises whatever it happens to run into.
    except Exception as error:
        size = path.stat().st_size
        raise WeightsError(
            f"{path} is cut off or damaged: of its {size} bytes torch can make no checkpoint."
        ) from error


def read_config(path: Path, name: str = CONFIG_NAME) -> dict[str, Any]:
    """Read `config.json`, or another file of Hugging Face's, in or beside `path`.

    Returns an empty dictionary where there is none.

    Raises:
        WeightsError: it is there, but is not a JSON object.
    """
    config_path = (path if path.is_dir() else path.parent) / name
    if path.suffix == ".pth" or not config_path.is_file():
        return {}
    return read_json_object(config_path)


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """Read `model.safetensors` of a folder, whole or in shards, and no other format.

    Raises:
        WeightsError: there is none, or it is cut off, damaged or larger than `MOST_WEIGHT_BYTES`.
    """
    whole = folder / SAFETENSORS_NAME
    index = folder / f"{SAFETENSORS_NAME}{INDEX_SUFFIX}"
    if not whole.is_file() and not index.is_file():
        raise WeightsError(
            f"{folder} has no {SAFETENSORS_NAME}, whole or in shards with their index; of this "
            "family no other format is read."
        )
    return _read_safe(whole) if whole.is_file() else _read_shards(index, safe=True)


def _read_folder(folder: Path) -> Unwrapped:
    for name in SINGLE_NAMES:
        if (folder / name).is_file():
            return read_weights(folder / name)
        if (folder / f"{name}{INDEX_SUFFIX}").is_file():
            return read_weights(folder / f"{name}{INDEX_SUFFIX}")
    if (folder / MANIFEST_NAME).is_file():
        raise WeightsError(f"{folder} is a bundle, which holds graphs and no weights to import.")
    wanted = " nor ".join(SINGLE_NAMES)
    raise WeightsError(f"{folder} has neither {wanted}, whole or in shards with their index.")


def _read_shards(index: Path, safe: bool = False) -> dict[str, Tensor]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise WeightsError(f"{index} has no weight_map.")
    tensors: dict[str, Tensor] = {}
    for name in sorted({str(name) for name in weight_map.values()}):
        if Path(name).name != name or name == "..":
            raise WeightsError(f"{index} names a file outside its folder: {name}.")
        shard = index.parent / name
        if not shard.is_file():
            raise WeightsError(f"{shard}, which {index.name} names, does not exist.")
        found = _read_safe(shard) if safe else _read_shard(shard)
        keys = [key for key, holder in weight_map.items() if holder == name]
        absent = sorted(set(keys) - set(found))
        if absent:
            raise WeightsError(f"{shard} lacks {absent[0]}, which {index.name} says it has.")
        surplus = sorted(set(found) - set(keys))
        if surplus:
            # Another one's, or nobody's: which values were meant cannot be told.
            raise WeightsError(f"{shard} has {surplus[0]}, which {index.name} does not say it has.")
        tensors.update({key: found[key] for key in keys})
    return tensors


def _read_shard(path: Path) -> dict[str, Tensor]:
    if _is_safetensors(_head(path)):
        return _read_safetensors(path)
    return named_tensors(read_torch_file(path), path)


def _read_safe(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, of which the header alone tells that it is one."""
    if path.stat().st_size > MOST_WEIGHT_BYTES:
        raise WeightsError(f"{path} is larger than any model here.")
    if not _is_safetensors(_head(path)):
        raise WeightsError(f"{path} is not a safetensors file.")
    return _read_safetensors(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    # Its own error, and whatever torch says of sizes and types in a header that is damaged.
    except Exception as error:
        raise WeightsError(
            f"{path} is cut off or damaged: it is not a readable safetensors file ({error})."
        ) from error


def _is_safetensors(head: bytes) -> bool:
    """Tell whether a file begins like safetensors: eight bytes of length, then JSON."""
    return len(head) > 8 and head[8:9] == b"{"


def _head(path: Path) -> bytes:
    """Return the first bytes of a file that may hold weights.

    Raises:
        WeightsError: it is not there, or is something that is often found in place of weights.
    """
    if not path.exists():
        raise WeightsError(f"{path} does not exist.")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}.") from error
    if not head:
        raise WeightsError(f"{path} is empty.")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path} is a Git LFS pointer and not the weights: git lfs pull fetches them."
        )
    if b"/annex/objects/" in text:
        raise WeightsError(
            f"{path} is a git-annex pointer and not the weights: git annex get fetches them."
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise WeightsError(
            f"{path} is a web page and not weights: the download went wrong, or needs a login."
        )
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            raise WeightsError(f"{path} is compressed by {name}: unpack it first.")
    return head


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object, of at most `MOST_CONFIG_BYTES` but for an index of shards.

    Raises:
        WeightsError: it is none.
    """
    try:
        if path.stat().st_size > MOST_CONFIG_BYTES and not path.name.endswith(INDEX_SUFFIX):
            raise WeightsError(f"{path} is larger than any such file is.")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not readable JSON: {error}.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is not a JSON object.")
    return content
