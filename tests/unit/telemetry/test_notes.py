"""What frames count is there for whoever reads after them, however it was noted."""

import threading

from prometheus_client import generate_latest

from common.domain.detections import StageTiming
from common.telemetry.metrics import Metrics

FRAMES = 40


def test_a_reader_finds_all_that_was_noted_before():
    metrics = Metrics()
    for number in range(1, FRAMES + 1):
        metrics.count_bytes("edge", "received", 10)
        metrics.observe_stage("backbone", StageTiming("edge", execute_seconds=0.02))
        metrics.observe_frame("full", "detections", 0.03)
        by_name = metrics.registry.restricted_registry(["tandem_link_bytes_total"])
        assert f" {10 * number}.0\n" in generate_latest(by_name).decode()
        count = metrics.registry.get_sample_value
        assert (
            count("tandem_frames_total", {"placement": "full", "outcome": "detections"}) == number
        )
        execute = {"stage": "backbone", "step": "execute"}
        assert count("tandem_stage_seconds_count", execute) == number


def test_much_is_counted_without_a_reader():
    metrics = Metrics()
    for _ in range(1000):
        metrics.count_frame("full", "detections")
    series = metrics.frames.labels("full", "detections")
    counted = next(iter(series.collect())).samples[0].value
    assert 900 < counted <= 1000


def test_threads_note_while_others_read():
    metrics = Metrics()

    def note():
        for _ in range(1000):
            metrics.count_frame("full", "detections")

    threads = [threading.Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        generate_latest(metrics.registry)
    labels = {"placement": "full", "outcome": "detections"}
    assert metrics.registry.get_sample_value("tandem_frames_total", labels) == 4000
