"""Medians with their spread, and what a node's memory and power are."""

import pytest

from common.domain.placement import Placement
from experiments.placements.cases import Case, Run
from experiments.placements.samples import (
    MEMORY,
    POWER,
    Reading,
    SampleRow,
    node_memory_bytes,
    node_watts,
    parse_metrics,
    sample_rows,
)
from experiments.placements.summary import (
    METRICS,
    RunSummary,
    Spread,
    frame_figures,
    spread,
    summarise_cases,
)


def row(phase: str, answered_at: float, latency: float) -> dict:
    parts = ("edge", "link", "workstation", "queue", "other", "edge_execute")
    return {
        "phase": phase,
        "answered_at_seconds": str(answered_at),
        "latency_seconds": str(latency),
        "link_bytes": "1000",
        "workstation_execute_seconds": "0.012",
        **{f"{part}_seconds": str(latency / 5) for part in parts},
    }


def sample(at: float, metric: str, label: str, value: float, stage: str = "backbone") -> SampleRow:
    return SampleRow(at, "pipelined", "edge", stage, metric, label, value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0, 1.0, 2.0], Spread(2, 1, 3, 3)),
        ([1.0, 2.0], Spread(1.5, 1, 2, 2)),
        ([4.0], Spread(4, 4, 4, 1)),
        ([], None),
        # A median of some of the runs would not be the case's.
        ([1.0, None], None),
    ],
)
def test_spread_is_median_least_and_most(values, expected):
    assert spread(values) == expected


def test_frames_a_second_are_the_pipeline_s_and_components_the_single_frames():
    pipelined = [row("pipelined", 10 + 0.02 * index, 0.1) for index in range(11)]
    single = [row("single", 20 + index, latency) for index, latency in enumerate((0.05, 0.04, 0.3))]
    figures = frame_figures([*pipelined, *single])
    assert figures["fps"] == pytest.approx(50)
    assert figures["latency_p50_ms"] == pytest.approx(100)
    assert figures["single_latency_ms"] == pytest.approx(50)
    assert figures["edge_ms"] == pytest.approx(10)
    assert figures["workstation_execute_ms"] == pytest.approx(12)
    assert figures["bytes_per_frame"] == 1000


def test_cases_without_runs_are_left_out_and_the_order_is_kept():
    first, second, third = (Case(name, Placement.FULL, None, "unshaped") for name in "abc")
    blank = dict.fromkeys(METRICS)
    runs = [RunSummary(Run(second, n), {**blank, "fps": float(n)}) for n in (1, 2, 3)]
    runs.append(RunSummary(Run(first, 1), {**blank, "fps": 9.0}))
    cases = summarise_cases(runs, [first, second, third])
    assert [each.case for each in cases] == [first, second]
    assert cases[1].figures["fps"] == Spread(2, 1, 3, 3)
    assert cases[1].figures["edge_watts"] is None


def test_memory_of_processes_is_summed_and_that_of_the_device_is_not():
    rows = [
        sample(at, MEMORY, kind, value, stage)
        for at in (1.0, 2.0)
        for stage, rss in (("backbone", 100.0), ("transformer", 50.0))
        for kind, value in (("process_rss", rss * at), ("system_used", 900.0))
    ]
    assert node_memory_bytes(rows, "edge", "process_rss") == 225
    assert node_memory_bytes(rows, "edge", "system_used") == 900
    assert node_memory_bytes(rows, "workstation", "process_rss") is None


@pytest.mark.parametrize(
    ("rails", "wanted", "watts"),
    [
        ({}, None, None),
        ({"VDD_IN": 7.0, "VDD_SYS_GPU": 3.0}, None, 7),
        ({"VDD_IN": 7.0, "VDD_SYS_GPU": 3.0}, "VDD_SYS_GPU", 3),
        ({"package-0": 20.0, "package-1": 22.0, "package-0-core": 9.0}, None, 42),
        ({"package-0": 20.0, "gpu0": 80.0}, None, 100),
        ({"a rail": 80.0}, None, 80),
        # Which of them is all, or whether they add up, is not known.
        ({"one": 1.0, "two": 2.0}, None, None),
        ({"one": 1.0}, "VDD_IN", None),
    ],
)
def test_power_is_that_of_the_whole_device_or_not_known(rails, wanted, watts):
    rows = [sample(1.0, POWER, rail, value) for rail, value in rails.items()]
    rows += [sample(1.0, POWER, rail, value, "transformer") for rail, value in rails.items()]
    assert node_watts(rows, "edge", wanted) == watts


def test_samples_belong_to_the_phase_that_was_under_way():
    reading = vars(Reading(POWER, "VDD_IN", 5.0))
    told = [{"at": at, "stages": {"backbone": [reading]}} for at in (0.5, 1.5, 3.5)]
    rows = sample_rows("edge", told, {"pipelined": (1.0, 2.0), "single": (3.0, 4.0)})
    assert [each.phase for each in rows] == ["", "pipelined", "single"]


def test_memory_and_power_are_read_from_prometheus_text():
    text = (
        '# TYPE tandem_memory_bytes gauge\ntandem_memory_bytes{kind="process_rss"} 1.5e8\n'
        '# TYPE tandem_power_watts gauge\ntandem_power_watts{rail="VDD_IN"} 7.5\n'
        "# TYPE other gauge\nother 1\n"
    )
    assert parse_metrics(text) == [
        Reading(MEMORY, "process_rss", 1.5e8),
        Reading(POWER, "VDD_IN", 7.5),
    ]
