"""Tiny models of each family, cut once for all tests of this folder."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from common.bundle import Normalization, ShortestEdgeInput, StretchInput  # noqa: E402
from detr.families.base import Preparation  # noqa: E402
from detr.families.random_weights import spread_weights  # noqa: E402
from detr.families.registry import family_of  # noqa: E402
from tests.tiny_families import CONFIGS, SIDE  # noqa: E402

NAMES = {"id2label": {"0": "cat", "1": "dog", "2": "own thing"}}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Other tests have the other cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(family_name, **changes):
    """A model of three classes, with random weights."""
    config = {**CONFIGS[family_name], **NAMES, **changes}
    model = family_of(config).build(config)
    spread_weights(model, 1, (SIDE, SIDE))
    return model


def cut(family_name, model, height=SIDE, width=SIDE):
    """The model in two halves."""
    policy = StretchInput(height=height, width=width)
    if family_name == "conditional_detr":
        policy = ShortestEdgeInput(shortest_edge=SIDE, longest_edge=2 * SIDE)
    return family_of(CONFIGS[family_name]).split(model, Preparation(policy, Normalization()))


@pytest.fixture(scope="session")
def splits():
    """By family, and `d_fine discrete`."""
    found = {name: cut(name, built(name)) for name in CONFIGS}
    discrete = built("d_fine", decoder_method="discrete")
    found["d_fine discrete"] = cut("d_fine", discrete)
    return found


@pytest.fixture(scope="session")
def exported(splits, tmp_path_factory):
    """The paths of both halves, by the same names."""
    from detr.families.graphs import write_halves

    paths = {}
    for name, split in splits.items():
        folder = tmp_path_factory.mktemp("halves")
        paths[name] = (folder / "backbone.onnx", folder / "transformer.onnx")
        write_halves(split, *paths[name])
    return paths
