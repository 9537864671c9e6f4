"""Files damaged at random: a sentence, or a right result; never a traceback, a hang or nonsense."""

import copy
import json
import math
import random
import warnings

import numpy as np
import pytest
import torch

from common.domain.detections import Box, Detection
from common.domain.errors import TandemError
from detr.coco.average_precision import coco_figures
from detr.coco.folder import check_pictures, open_coco
from detr.importing import import_weights, start_from
from detr.model import DETR
from tests.coco_sets import coco_set
from tests.weights_files import SMALL, save_hub_folder, save_shards, save_torch, small_state

SEED = 16
COCO_MUTATIONS, CONFIG_MUTATIONS, WEIGHT_MUTATIONS, STRUCTURES = 400, 120, 80, 40
KNOWN = {1: "person", 3: "car"}
VALUES = (
    *(None, True, False, 0, 1, -1, 3, 7.0, 0.5, 2**53 + 1, -(2**70), 10**400, math.nan, math.inf),
    *("", "0", "car", "person", "\0", "\ud800", "../x", "a" * 300, "N/A", "relu", "resnet18"),
    *([], [1], [0, 0, 5, 5], [1, 2, 3, math.nan], [[[]]], {}, {"id": 1}, {"0": "a"}),
)


def places(value, path=()):
    """Every place in a nested value, as a path of keys."""
    yield path
    items = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield from places(inner, (*path, key))


def mutate(content, chance):
    """Change, drop, repeat or exchange something."""
    content = copy.deepcopy(content)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        *way, last = chance.choice([path for path in places(content) if path])
        holder = content
        for key in way:
            holder = holder[key]
        kind = chance.randrange(5)
        if kind == 0:
            del holder[last]
        elif kind == 1 and isinstance(holder, list):
            holder.insert(last, copy.deepcopy(holder[last]))
        elif kind == 2 and isinstance(holder[last], (int, float)):
            holder[last] = holder[last] * chance.choice((-1, 2, 1000)) + chance.choice((0, 1))
        elif kind == 3 and isinstance(holder, dict):
            holder[chance.choice(["id", "name", "bbox", "more", "image_id"])] = holder[last]
        else:
            holder[last] = copy.deepcopy(chance.choice(VALUES))
    return content


def damaged(data, chance):
    """Bytes cut, overwritten, exchanged, inserted."""
    data = bytearray(data)
    at = chance.randrange(len(data) + 1) if chance.random() < 0.5 else chance.randrange(200)
    kind = chance.randrange(4)
    if kind == 0:
        del data[at:]
    elif kind == 1:
        data[at : at + 8] = chance.randbytes(chance.randrange(1, 9))
    elif kind == 2 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    else:
        data[at:at] = chance.choice((b"\0" * 9, b"<html>", b"{", b"PK\x03\x04", b"\x80\x02."))
    return bytes(data)


def sentence(error):
    """Whether an error is fit to be shown."""
    text = str(error)
    return len(text) > 10 and "Traceback" not in text and "\n" not in text.strip()


def detection(annotation):
    x, y, width, height = annotation["bbox"]
    return Detection(annotation["category_id"], "", 0.9, Box(x, y, x + width, y + height))


def test_coco_files(tmp_path):
    made = coco_set(tmp_path)
    chance = random.Random(SEED)
    taken = 0
    for _ in range(COCO_MUTATIONS):
        path = tmp_path / "fuzzed.json"
        text = json.dumps(mutate(made.content, chance))
        path.write_bytes(text.encode() if chance.random() < 0.9 else damaged(text.encode(), chance))
        try:
            folder = open_coco(made.images, path, model=chance.choice((KNOWN, None)))
            check_pictures(made.images, folder.pictures)
        except TandemError as error:
            assert sentence(error), error
            continue
        taken += 1
        # Right is: who finds just what is true has found everything.
        found = [
            (picture["id"], [detection(each) for each in folder.annotations[picture["id"]]])
            for picture in folder.pictures
        ]
        if any(detections for _, detections in found):
            ids = [picture["id"] for picture in folder.pictures]
            assert coco_figures(folder.instances, found, ids)["AR100"] == pytest.approx(1)
    assert 0.1 * COCO_MUTATIONS < taken < 0.9 * COCO_MUTATIONS


CONFIG = {
    "model_type": "detr",
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_ffn_dim": 24,
    "num_queries": 5,
    "activation_function": "relu",
    "position_embedding_type": "sine",
    "dilation": False,
    "use_timm_backbone": True,
    "backbone": "resnet18",
    "backbone_kwargs": {"out_indices": [1, 2, 3, 4], "output_stride": 32},
    "id2label": {"0": "bolt", "1": "nut", "2": "N/A"},
}
# Whatever they are, the model computes the same: timm's ResNet and transformers' own do.
WITHOUT_EFFECT = {"id2label", "use_timm_backbone"}


def test_config_json(tmp_path):
    state = small_state()
    folder = save_hub_folder(state, tmp_path, CONFIG)
    chance = random.Random(SEED)
    taken = 0
    for _ in range(CONFIG_MUTATIONS):
        config = mutate(CONFIG, chance)
        text = json.dumps(config).encode()
        (folder / "config.json").write_bytes(
            text if chance.random() < 0.9 else damaged(text, chance)
        )
        try:
            imported = import_weights(folder)
        except TandemError as error:
            assert sentence(error), error
            continue
        taken += 1
        # Nothing that was changed is passed over: what is said is what the model has.
        said = json.loads((folder / "config.json").read_text())
        architecture = imported.model.architecture
        heads = said.get("encoder_attention_heads") or said.get("decoder_attention_heads") or 8
        assert architecture.heads == heads
        assert architecture.dilation == bool(said.get("dilation") or stride(said) == 16)
        for name in set(CONFIG) - WITHOUT_EFFECT - {"dilation", "backbone_kwargs"}:
            unused = name == "backbone" and said.get("use_timm_backbone") is False
            if said.get(name) is not None and "heads" not in name and not unused:
                assert said[name] == CONFIG[name], name
    assert 0.05 * CONFIG_MUTATIONS < taken < 0.9 * CONFIG_MUTATIONS


def stride(config):
    return (config.get("backbone_kwargs") or {}).get("output_stride")


def test_weight_files(tmp_path):
    state = small_state()
    (tmp_path / "hub").mkdir()
    (tmp_path / "shards").mkdir()
    save_hub_folder(state, tmp_path / "hub", CONFIG)
    files = [
        (save_torch({"model": state}, tmp_path, "zip.pth"),) * 2,
        (tmp_path / "legacy.pth", tmp_path / "legacy.pth"),
        (tmp_path / "hub" / "model.safetensors",) * 2,
        (save_shards(state, tmp_path / "shards"), tmp_path / "shards"),
        (tmp_path / "shards" / "model-00001-of-00002.safetensors", tmp_path / "shards"),
    ]
    torch.save({"model": state}, files[1][0], _use_new_zipfile_serialization=False)
    chance = random.Random(SEED)
    whole = {file: file.read_bytes() for file, _ in files}
    for _ in range(WEIGHT_MUTATIONS):
        file, path = chance.choice(files)
        file.write_bytes(damaged(whole[file], chance))
        try:
            read(path, chance)
        except TandemError as error:
            assert sentence(error), error
        file.write_bytes(whole[file])


def read(path, chance):
    """By an import, or to train on; values may differ where bytes of them do, shapes may not."""
    if chance.random() < 0.5:
        model = import_weights(path, heads=4).model
    else:
        model = DETR(SMALL)
        start_from(model, path)
    for name, value in model.state_dict().items():
        assert value.isfinite().all(), name


def structures(state, chance):
    """What a training code might have saved."""
    keys = list(state)
    content = dict(state)
    for _ in range(chance.randrange(3)):
        key = chance.choice(keys)
        content[key] = chance.choice(
            (
                torch.zeros(3),
                torch.zeros(0),
                torch.tensor(1.0),
                torch.full_like(state[key], torch.nan),
                state[key].int(),
                state[key].to(torch.complex64),
                state[key].to_sparse(),
                state[key].to("meta"),
                state[key].expand(2, *state[key].shape),
                7,
                None,
                np.float64(1).item(),
            )
        )
    if chance.random() < 0.3:
        content = {
            f"{chance.choice(('module.', 'model.', 'x.'))}{k}": v for k, v in content.items()
        }
    for _ in range(chance.randrange(3)):
        key = chance.choice(("model", "state_dict", "ema", "args", "average", "recipe", 3))
        content = {key: content, "epoch": 1, "args": chance.choice(({}, {"nheads": 4}, [1], None))}
    return content


def test_structures_of_checkpoints(tmp_path):
    state = small_state()
    chance = random.Random(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of sparse tensors
        for _ in range(STRUCTURES):
            path = save_torch(structures(state, chance), tmp_path)
            try:
                imported = import_weights(path)
            except TandemError as error:
                assert sentence(error), error
                continue
            taken = imported.model.state_dict()
            assert all(torch.equal(taken[key], state[key]) for key in taken)
