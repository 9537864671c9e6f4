"""Weights of a small DETR, in the forms that people bring."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from common.bundle import Architecture
from detr.model import DETR

SMALL = Architecture(
    backbone="resnet18",
    base_width=4,
    encoder_layers=1,
    decoder_layers=1,
    hidden_dim=16,
    heads=4,
    feedforward_dim=24,
    queries=5,
    classes=3,
)


def small_state(**changes):
    """Of a random DETR, its architecture changed."""
    torch.manual_seed(0)
    return DETR(SMALL.model_copy(update=changes)).state_dict()


def save_torch(content, folder, name="weights.pth"):
    path = Path(folder) / name
    torch.save(content, path)
    return path


def save_hub_folder(state, folder, config):
    """A folder as Hugging Face's, though the keys are the official ones."""
    save_file(
        {key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def save_shards(state, folder, count=2, suffix=".safetensors"):
    """Shards and their index."""
    keys = sorted(state)
    names = [f"model-{n + 1:05}-of-{count:05}{suffix}" for n in range(count)]
    weight_map = {key: names[index % count] for index, key in enumerate(keys)}
    for name in names:
        part = {key: state[key].contiguous() for key in keys if weight_map[key] == name}
        if suffix == ".safetensors":
            save_file(part, folder / name)
        else:
            torch.save(part, folder / name)
    stem = "model" if suffix == ".safetensors" else "pytorch_model"
    index = folder / f"{stem}{suffix}.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    return index
