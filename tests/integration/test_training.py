"""Training by real commands: alone, over two processes, resumed, on a COCO folder."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from common.bundle import load_bundle, write_bundle
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from detr.training.checkpoints import load_checkpoint, read_record
from detr.training.metrics import read_metrics
from detr.training.release import rebuild, shipped_records
from scenes.fetch import DEFAULT_CACHE, require_cache
from tests.training_runs import INPUT, run_training, tiny_coco
from tests.unit.training.conftest import TINY

ROOT = Path(__file__).parents[2]
RECORDS = shipped_records(ROOT / "models" / "records")


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory):
    """A tiny recipe over a COCO folder of eight composed scenes with COCO's ids."""
    folder = tmp_path_factory.mktemp("coco")
    recipe = {
        **TINY,
        "architecture": {**TINY["architecture"], "classes": 20},
        "input": INPUT,
        "steps": 6,
        "checkpoint_every_steps": 3,
        "evaluation": {"every_steps": 6, "images": 4},
        "dropout": 0.0,
        "data": tiny_coco(folder),
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def train(recipe, output, *more, processes=1):
    return run_training("detr.training.cli", recipe, output, *more, processes=processes)


@pytest.fixture(scope="module")
def finished(recipe_file, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "alone"
    result = train(recipe_file, output)
    assert result.returncode == 0, result.stderr
    return output, result


def test_a_run_leaves_checkpoint_metrics_and_curve(finished):
    output, result = finished
    assert load_checkpoint(output / "checkpoint.pt")["step"] == 6
    assert (output / "curve.png").read_bytes().startswith(b"\x89PNG")
    with (output / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["step"] == "6"
    assert rows[-1]["ap"]
    assert "step 6: AP" in result.stderr


def test_two_processes_train_as_one(recipe_file, finished, tmp_path):
    output = tmp_path / "two"
    result = train(recipe_file, output, processes=2)
    assert result.returncode == 0, result.stderr
    alone, together = (read_metrics(folder / "metrics.csv")[-1] for folder in (finished[0], output))
    for name in ("loss", "classes", "l1", "giou", "dense"):
        assert together.losses[name] == pytest.approx(alone.losses[name], rel=2e-4), name


def test_a_run_is_not_overwritten_but_resumed(recipe_file, finished):
    output, _ = finished
    before = (output / "checkpoint.pt").read_bytes()
    refused = train(recipe_file, output)
    assert refused.returncode == 1
    assert "continue it with --resume" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    resumed = train(recipe_file, output, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert (output / "checkpoint.pt").read_bytes() == before


def test_a_dry_run_tells_what_a_run_needs_and_leaves_nothing(recipe_file, tmp_path):
    output = tmp_path / "dry"
    result = train(recipe_file, output, "--dry-run", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    told = result.stdout.splitlines()
    assert told[0] == "recipe tiny: its data is there, and its first steps work."
    assert [line.split()[0] for line in told[1:]] == ["device", "memory", "step", "loader", "6"]
    assert re.fullmatch(r" +step +[1-9]\d* ms, [1-9]\d* images/s", told[3])
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_finds_what_would_end_a_run(recipe_file, tmp_path):
    recipe = yaml.safe_load(recipe_file.read_text())
    recipe["data"]["train_annotations"] = str(tmp_path / "missing.json")
    broken = tmp_path / "broken.yaml"
    broken.write_text(yaml.safe_dump(recipe))
    result = train(broken, tmp_path / "dry", "--dry-run")
    assert result.returncode == 1
    assert "missing.json cannot be read" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_unknown_recipe_is_one_sentence(tmp_path):
    result = train("no-such-recipe", tmp_path / "x")
    assert result.returncode == 1
    assert result.stderr.startswith("tandem train: there is no recipe no-such-recipe")
    assert len(result.stderr.strip().splitlines()) == 1


def digest_without_bottleneck(bundle, folder):
    """The digest of the bundle that a bottleneck was added to, which the record tells."""
    halves = {f"{stage.value}.onnx": "" for stage in Stage}
    for name in halves:
        shutil.copy(bundle.folder / name, folder)
    manifest = bundle.manifest.model_copy(update={"files": halves, "bottleneck": None})
    return write_bundle(folder, manifest).digest


@pytest.mark.parametrize("folder", RECORDS, ids=lambda folder: folder.name)
def test_a_shipped_bundle_is_rebuilt_from_its_record(folder, tmp_path):
    record = read_record(folder)
    shipped = load_bundle(ROOT / "models" / record["name"])
    assert digest_without_bottleneck(shipped, tmp_path) == record["bundle_digest"]
    if record["torch"] != torch.__version__:
        pytest.skip(f"THE BUNDLE WAS MADE WITH torch {record['torch']}: BYTES MAY DIFFER")
    rebuild(folder)


@pytest.mark.parametrize("folder", RECORDS, ids=lambda folder: folder.name)
def test_exported_halves_score_as_the_model_does(folder):
    for split, figures in read_record(folder)["figures"].items():
        for name in ("AP", "AP50"):
            assert figures["onnx"][name] == pytest.approx(figures["torch"][name], abs=5e-4), split


def test_fetched_sources_have_every_category():
    try:
        require_cache(ROOT / DEFAULT_CACHE)
    except ConfigurationError as error:
        pytest.skip(f"ARTWORK NOT FETCHED: {error}")
    from scenes.artwork import load_artwork, training_sets, unseen_sets

    for sets in (training_sets(), unseen_sets()):
        artwork = load_artwork(ROOT / DEFAULT_CACHE, sets)
        assert all(artwork.icons)
