"""Comparing an engine with ONNX Runtime on this device."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.bundle import Graph, load_bundle
from common.domain.errors import ConfigurationError
from common.domain.placement import Stage
from common.engines.base import Precision
from services.check.comparison import (
    HalfCheck,
    check_half,
    compute_reference,
    largest_error,
    read_reference,
    relative_error,
    write_reference,
)
from services.check.queries import matched_queries
from services.pipeline.shapes import compile_options

ROOT = Path(__file__).parents[2]
BUNDLE = load_bundle(ROOT / "tests" / "data" / "toy-bundle")


def run(*arguments: str) -> Any:
    command = [sys.executable, "-m", "services.check", "--bundle", str(BUNDLE.folder), *arguments]
    return subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True)


def test_a_reference_is_written_and_read(tmp_path: Path) -> None:
    reference = compute_reference(BUNDLE)
    path = tmp_path / "reference.npz"
    write_reference(path, BUNDLE, reference)
    again = read_reference(path, BUNDLE)
    assert again.keys() == reference.keys() == set(BUNDLE.graphs)
    for stage in BUNDLE.graphs:
        for side in ("inputs", "outputs"):
            written, read = getattr(reference[stage], side), getattr(again[stage], side)
            assert written.keys() == read.keys()
            for name in written:
                np.testing.assert_array_equal(written[name], read[name])


def test_the_mask_counts() -> None:
    mask = compute_reference(BUNDLE)[Stage.TRANSFORMER].inputs["mask"]
    assert 0 < np.count_nonzero(mask) < mask.size


def test_a_reference_of_another_bundle_is_refused(tmp_path: Path) -> None:
    demo = load_bundle(ROOT / "tests" / "data" / "demo-r18")
    path = tmp_path / "reference.npz"
    write_reference(path, BUNDLE, compute_reference(BUNDLE))
    with pytest.raises(ConfigurationError, match=f"is of bundle {BUNDLE.digest}, not of"):
        read_reference(path, demo)
    path.write_bytes(b"not a reference")
    with pytest.raises(ConfigurationError, match="cannot read the reference"):
        read_reference(path, BUNDLE)


@pytest.mark.parametrize("stage", BUNDLE.graphs)
def test_onnxruntime_agrees_with_itself(stage: Graph, tmp_path: Path) -> None:
    options = compile_options(BUNDLE.manifest, stage, Precision.FP32, tmp_path)
    reference = compute_reference(BUNDLE)[stage]
    check = check_half(BUNDLE, stage, "onnxruntime", options, reference)
    assert check.is_good
    assert check.relative_error < 1e-5
    assert check.milliseconds > 0


def outputs_of(rng: np.random.Generator, queries: int = 300) -> dict[str, np.ndarray]:
    return {
        "logits": rng.normal(-4, 2, (1, queries, 80)).astype(np.float32),
        "boxes": rng.random((1, queries, 4), np.float32),
    }


def error_of(outputs: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    return largest_error(*matched_queries(outputs, reference))


def test_queries_in_another_order_are_the_same() -> None:
    rng = np.random.default_rng(0)
    reference = outputs_of(rng)
    order = rng.permutation(300)
    noisy = {name: array[:, order] * np.float32(1 + 1e-5) for name, array in reference.items()}
    assert relative_error(noisy["boxes"], reference["boxes"]) > 0.5
    assert error_of(noisy, reference) < 1e-4
    # A few places that only one of the engines took.
    other = outputs_of(rng)
    for name, array in noisy.items():
        array[:, :9] = other[name][:, :9]
    assert error_of(noisy, reference) < 1e-4


@pytest.mark.parametrize("name", ["logits", "boxes"])
def test_queries_that_are_wrong_are_noticed(name: str) -> None:
    rng = np.random.default_rng(0)
    reference = outputs_of(rng)
    wrong = {**reference, name: outputs_of(rng)[name]}
    assert error_of(wrong, reference) > 0.1
    some = {name: array.copy() for name, array in reference.items()}
    some[name][:, :30] = wrong[name][:, :30]
    assert error_of(some, reference) > 0.02
    some[name][0, 0, 0] = np.nan
    assert np.isnan(error_of(some, reference))


@pytest.mark.parametrize("stage", Stage)
def test_all_cut_tensors_are_checked(stage: Stage, tmp_path: Path) -> None:
    toy = load_bundle(ROOT / "tests" / "data" / "toy-tensors")
    options = compile_options(toy.manifest, stage, Precision.FP32, tmp_path)
    reference = compute_reference(toy)[stage]
    assert set(reference.inputs) in ({"pixels"}, {"features_16", "features_32"})
    assert check_half(toy, stage, "onnxruntime", options, reference).relative_error < 1e-5
    assert not check_half(toy, stage, "none", options, reference).is_good


def test_arbitrary_numbers_do_not_agree(tmp_path: Path) -> None:
    options = compile_options(BUNDLE.manifest, Stage.BACKBONE, Precision.FP32, tmp_path)
    reference = compute_reference(BUNDLE)[Stage.BACKBONE]
    assert not check_half(BUNDLE, Stage.BACKBONE, "none", options, reference).is_good


def test_what_is_not_a_number_is_not_good() -> None:
    error = relative_error(np.full(4, np.nan), np.arange(4.0))
    assert not HalfCheck(Stage.BACKBONE, "", 0, 0, error, 0.1).is_good


def test_the_command_compares_with_a_file(tmp_path: Path) -> None:
    path = str(tmp_path / "reference.npz")
    assert run("--write-reference", path).returncode == 0
    good = run("--engine", "onnxruntime", "--reference", path, "--json")
    assert good.returncode == 0, good.stderr
    assert [half["good"] for half in json.loads(good.stdout)["halves"]] == [True] * 4
    bad = run("--engine", "none", "--reference", path)
    assert bad.returncode == 1
    assert bad.stdout.count("TOO DIFFERENT") == 4


def test_the_command_fails_in_a_sentence() -> None:
    failed = run("--engine", "onnxruntime", "--engine-precision", "fp16")
    assert failed.returncode == 2
    assert failed.stderr.strip().splitlines() == [
        "python -m services.check: engine 'onnxruntime' computes in fp32 only on cpu; fp16 is for "
        "engine 'tensorrt' up to TensorRT 10, and for engine 'onnxruntime' on device tensorrt"
    ]
