"""Imitated devices: no model, held to a pace."""

from __future__ import annotations

import ctypes
import threading
import time
from pathlib import Path
from typing import Dict

import numpy as np
import pytest

from common.bundle import load_bundle
from common.domain.errors import EngineError
from common.domain.placement import Stage
from common.engines.paced import PacedEngine, SimulatedDevice, paced_seconds
from common.engines.registry import load_engine

BUNDLE = load_bundle(Path(__file__).parents[3] / "tests" / "data" / "demo-r18")
DURATION_SECONDS = 0.05


def inputs(stage: Stage, height: int, width: int) -> Dict[str, np.ndarray]:
    if stage is Stage.BACKBONE:
        return {"pixels": np.zeros((1, 3, height, width), np.float32)}
    rows, columns = -(-height // 32), -(-width // 32)
    cells = np.zeros((1, 128, rows, columns), np.float32)
    return {"features": cells, "pos": cells, "mask": np.zeros((1, rows, columns), np.float32)}


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("size", [(320, 320), (160, 97)])
def test_no_engine_has_the_shapes_of_the_real_one(stage, size):
    given = inputs(stage, *size)
    real = load_engine("onnxruntime", BUNDLE.onnx_path(stage), 1).run(given)
    imitated = load_engine("none", BUNDLE.onnx_path(stage), 1).run(given)
    assert {name: array.shape for name, array in imitated.items()} == {
        name: array.shape for name, array in real.items()
    }
    assert all(array.dtype == np.float32 for array in imitated.values())


def test_no_engine_repeats_its_numbers_in_arrays_of_the_callers_own():
    path = BUNDLE.onnx_path(Stage.BACKBONE)
    engine = load_engine("none", path, 1)
    first = engine.run(inputs(Stage.BACKBONE, 64, 64))["features"]
    expected = first.copy()
    first[:] = 0
    for again in (engine, load_engine("none", path, 1)):
        np.testing.assert_array_equal(
            again.run(inputs(Stage.BACKBONE, 64, 64))["features"], expected
        )


def test_no_engine_refuses_inputs_that_the_graph_does_not_have():
    engine = load_engine("none", BUNDLE.onnx_path(Stage.BACKBONE), 1)
    with pytest.raises(EngineError, match="do not fit"):
        engine.run({"image": np.zeros((1, 3, 64, 64), np.float32)})


def test_no_engine_refuses_a_missing_or_broken_graph(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    for path in (broken, tmp_path / "missing.onnx"):
        with pytest.raises(EngineError, match="cannot load"):
            load_engine("none", path, 1)


@pytest.mark.parametrize("name", ["none", "onnxruntime"])
def test_paced_engine_holds_each_result_and_says_that_it_is_simulated(name):
    engine = PacedEngine(load_engine(name, BUNDLE.onnx_path(Stage.BACKBONE), 1), DURATION_SECONDS)
    given = inputs(Stage.BACKBONE, 64, 64)
    started = time.perf_counter()
    for _ in range(3):
        assert engine.run(given)["features"].shape == (1, 128, 2, 2)
    assert time.perf_counter() - started >= 3 * DURATION_SECONDS
    assert "simulated pace 50 ms" in engine.description
    engine.close()


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(1, 0.02), (2, 0.03), (3, 0.035), (4, 0.04), (6, 0.05), (8, 0.06), (16, 0.12)],
)
def test_a_batch_takes_its_time_by_the_curve(frames, expected):
    curve = {2: 0.03, 4: 0.04, 8: 0.06}
    assert paced_seconds(frames, 0.02, curve) == pytest.approx(expected)
    # Without a curve nothing is gained.
    assert paced_seconds(frames, 0.02, {}) == pytest.approx(0.02 * frames)


def test_paced_engine_holds_a_batch_for_its_time():
    engine = load_engine("none", BUNDLE.onnx_path(Stage.BACKBONE), 1)
    paced = PacedEngine(engine, 0.01, batch_seconds={4: 0.1})
    assert "10 ms, 100 ms for 4 frames" in paced.description
    batch = {name: np.concatenate([a] * 4) for name, a in inputs(Stage.BACKBONE, 64, 64).items()}
    started = time.perf_counter()
    assert paced.run(batch)["features"].shape == (4, 128, 2, 2)
    assert time.perf_counter() - started >= 0.1
    paced.close()


def test_paced_engine_names_the_device_that_it_shares(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    engine = load_engine("none", BUNDLE.onnx_path(Stage.BACKBONE), 1)
    paced = PacedEngine(engine, DURATION_SECONDS, SimulatedDevice("tx2"))
    assert paced.description.endswith("simulated pace 50 ms on shared device tx2")
    started = time.perf_counter()
    assert paced.run(inputs(Stage.BACKBONE, 64, 64))["features"].shape == (1, 128, 2, 2)
    assert time.perf_counter() - started >= DURATION_SECONDS
    paced.close()


def test_its_thread_is_woken_when_it_is_due():
    get_timer_slack = 30
    engine = PacedEngine(load_engine("none", BUNDLE.onnx_path(Stage.BACKBONE), 1), 0.001)
    slack_nanoseconds = []

    def execute():
        engine.run(inputs(Stage.BACKBONE, 64, 64))
        slack_nanoseconds.append(ctypes.CDLL(None).prctl(get_timer_slack))

    thread = threading.Thread(target=execute)
    thread.start()
    thread.join()
    # Linux's default is 50,000; a thread of the real-time class has none.
    assert slack_nanoseconds[0] <= 1
