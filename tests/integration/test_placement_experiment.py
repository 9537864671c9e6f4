"""The placement experiment end to end: real processes, raw rows, figures, page, resumption."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.harness import ROOT, TOY_BUNDLE, clean_environment
from tests.streams import jpeg

FIGURES = ("3.2-fps", "3.3-components", "3.4-edge-fps", "3.5-edge-time", "3.6-power", "3.7-memory")
FRAMES = 25
# Paced, so that a run takes several sampling periods however fast the machine is.
DEVICE = {
    "name": "a device of 30 ms",
    "source": "made up",
    "milliseconds": {"Toy": {"backbone": 30, "transformer": 30}},
}


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An experiment that was run."""
    folder = tmp_path_factory.mktemp("experiment")
    frames = folder / "frames"
    frames.mkdir()
    for seed in range(3):
        (frames / f"{seed}.jpg").write_bytes(jpeg(seed))
    config = {
        "name": "toy",
        "title": "Toy model",
        "nodes": {
            "kind": "local",
            "edge": {"core": 0, "simulates": DEVICE},
            "workstation": {"core": 0, "simulates": DEVICE},
        },
        "models": [{"name": "Toy", "bundle": str(TOY_BUNDLE)}],
        "input": {"height": 64, "width": 64},
        "placements": ["full", "backbone"],
        "source": {"kind": "folder", "folder": str(frames)},
        "frames": FRAMES,
        "warm_up": 2,
        "single_frames": 3,
        "repeats": 1,
    }
    (folder / "toy.yaml").write_text(yaml.safe_dump(config))
    done = experiment(folder)
    assert done.returncode == 0, done.stderr
    return folder


def experiment(folder: Path, *more: str) -> subprocess.CompletedProcess:
    config, out = str(folder / "toy.yaml"), str(folder / "out")
    return run("experiments.placements", "--config", config, "--output", out, *more)


def test_every_frame_s_components_add_up_to_its_latency(folder):
    for name in ("Toy-full-unshaped-1", "Toy-backbone-int8-unshaped-1"):
        with (folder / "out/runs" / name / "frames.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["phase"] for row in rows] == ["pipelined"] * FRAMES + ["single"] * 3
        for row in rows:
            parts = ("edge", "link", "workstation", "queue", "other")
            total = sum(float(row[f"{part}_seconds"]) for part in parts)
            assert total == pytest.approx(float(row["latency_seconds"]))
            is_split = "backbone" in name
            # The device takes so long for each half that it runs, however late the answers come.
            assert float(row["edge_seconds"]) >= (0.03 if is_split else 0.06)
            assert (float(row["workstation_seconds"]) > 0) == is_split
            assert (int(row["link_bytes"]) > 0) == is_split


def test_memory_is_sampled_on_the_nodes_that_are_used(folder):
    with (folder / "out/summary.csv").open() as file:
        full, backbone = csv.DictReader(file)
    assert (full["placement"], backbone["placement"]) == ("full", "backbone")
    assert float(full["edge_memory_bytes"]) > float(backbone["edge_memory_bytes"]) > 1e7
    assert full["workstation_memory_bytes"] == ""
    assert float(full["fps"]) > 0
    assert float(backbone["fps"]) > 0


def test_the_record_names_the_model_the_machine_and_the_commit(folder):
    record = json.loads((folder / "out/record.json").read_text())
    assert len(record["models"]["Toy"]["digest"]) == 64
    assert sorted(record["order"]) == ["Toy-backbone-int8-unshaped-1", "Toy-full-unshaped-1"]
    (session,) = record["sessions"]
    assert session["machine"]["packages"]["grpcio"]
    assert "commit" in session


def test_figures_and_page_are_written(folder):
    done = run("experiments.figures", str(folder / "out"))
    assert done.returncode == 0, done.stderr
    page = (folder / "out/report.md").read_text()
    for name in FIGURES:
        for suffix in ("png", "svg"):
            assert (folder / f"out/figures/figure-{name}.{suffix}").stat().st_size > 1000
        assert f"figures/figure-{name}.png" in page
    assert "**Simulated: the edge imitates a device of 30 ms" in page
    assert "SIMULATED: the edge imitates" in (folder / "out/figures/figure-3.2-fps.svg").read_text()
    assert "| DETR-R50 | thesis | 49.2M | 42.0 |" in page


def test_a_resumed_experiment_repeats_no_finished_run(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/*/frames.csv")}
    refused = experiment(folder)
    assert refused.returncode == 1
    assert "is in use: give --resume" in refused.stderr
    resumed = experiment(folder, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    after = {path: path.stat().st_mtime_ns for path in folder.glob("out/runs/*/frames.csv")}
    assert before == after
