"""The trace shows each step where it ran, and no two steps at once in one lane."""

import itertools
import json

import pytest

from common.domain.detections import FrameTiming, StageTiming
from tandem.trace import ENGINE_LANE, spans_of, write_trace
from tests.unit.tandem.factories import result


def frame(number):
    """Frame n enters every 20 ms; its backbone runs 20 ms, its transformer 10 ms."""
    start = 1000.0 + 0.020 * number
    backbone = StageTiming(
        "edge",
        decode_seconds=0.005,
        preprocess_seconds=0.003,
        queue_seconds=0.010,
        execute_seconds=0.020,
        encode_seconds=0.001,
        received_at_seconds=start + 0.001,
        execute_after_seconds=0.019,
    )
    transformer = StageTiming(
        "workstation",
        execute_seconds=0.010,
        postprocess_seconds=0.002,
        received_at_seconds=start + 0.045,
        execute_after_seconds=0.001,
    )
    return result(number, timing=FrameTiming(backbone, transformer, 0.060, start))


def test_steps_are_laid_out_around_the_execution():
    spans = {span.name: span for span in spans_of(frame(0)) if "backbone" in span.process}
    times = {name: (span.start - 1000, span.end - 1000) for name, span in spans.items()}
    expected = {
        "decode": (0.002, 0.007),
        "preprocess": (0.007, 0.010),
        "queue": (0.010, 0.020),
        "execute": (0.020, 0.040),
        "encode": (0.040, 0.041),
    }
    assert set(times) == set(expected)
    for name, (start, end) in expected.items():
        assert times[name] == pytest.approx((start, end), abs=1e-6)


def test_a_frame_that_reached_no_stage_shows_only_its_way_through_the_orchestrator():
    lost = result(3, timing=FrameTiming(None, None, 0.5, 1000.0))
    (span,) = spans_of(lost)
    assert (span.process, span.end - span.start) == ("orchestrator", pytest.approx(0.5))


def test_the_file_is_a_trace_of_complete_events(tmp_path):
    path = tmp_path / "trace.json"
    write_trace(path, [frame(number) for number in range(6)])
    events = json.loads(path.read_text())["traceEvents"]
    names = {
        (event["pid"], event["tid"]): event["args"]["name"]
        for event in events
        if event["ph"] == "M"
    }
    complete = [event for event in events if event["ph"] == "X"]
    assert min(event["ts"] for event in complete) == 0
    engines = [event for event in complete if names[event["pid"], event["tid"]] == ENGINE_LANE]
    assert len(engines) == 12
    lanes = itertools.groupby(
        sorted(complete, key=lambda event: (event["pid"], event["tid"], event["ts"])),
        key=lambda event: (event["pid"], event["tid"]),
    )
    for _, lane in lanes:
        for before, after in itertools.pairwise(lane):
            assert after["ts"] >= before["ts"] + before["dur"] - 1
