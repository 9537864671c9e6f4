"""Traces off cost nothing, whatever the environment says; on, they stay within bounds."""

import gc
import os
import subprocess
import sys
import time

import pytest

from common.domain.detections import StageTiming
from common.telemetry.tracing import (
    MARKED,
    NOT_TRACED,
    Traces,
    are_on,
    traces_of,
)
from tests.forked import ROOT

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "false"}, True),
    ],
)
def test_the_usual_variables_switch_traces_on(environment, on):
    assert are_on(environment) is on


def test_off_imports_nothing():
    program = """
import sys
import services.backbone.service, services.transformer.service, services.orchestrator.service
from common.server.server import ServiceServer
from common.server.settings import ServerSettings
server = ServiceServer("backbone", ServerSettings(), "edge")
server.traces.stream((("traceparent", "x"),)).frame("frame", "x").call("transfer").end()
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=str(ROOT), stdout=subprocess.PIPE, check=True
    )
    assert ran.stdout.decode().splitlines()[-1] == "[]"


def test_off_passes_on_what_others_trace():
    metadata = [MARKED, ("traceparent", PARENT), ("authorization", "secret"), ("tracestate", "a=b")]
    stream = Traces().stream(metadata)
    assert stream.metadata == (MARKED, ("traceparent", PARENT), ("tracestate", "a=b"))
    with stream.frame("frame", PARENT, frame_id=1) as span, span.call("transfer") as call:
        assert (call.traceparent, call.trace_id) == (PARENT, "")
    assert stream.frame("frame") is NOT_TRACED


@pytest.mark.parametrize("traceparent", ["x" * 55, PARENT + "-more", PARENT.upper(), "\xe9" * 10])
def test_off_passes_nothing_on_that_another_service_might_refuse(traceparent):
    metadata = [
        ("traceparent", traceparent),
        ("tracestate", "a=" + "b" * 600),
        (MARKED[0], "otherwise"),
        ("traceparent", b"bytes"),
    ]
    stream = Traces().stream(metadata)
    assert stream.metadata == ()
    assert stream.frame("frame", traceparent) is NOT_TRACED


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/json"),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, "soon"),
        ({**ENDPOINT, "OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, "off"),
    ],
)
def test_an_environment_that_makes_no_sense_is_told_and_keeps_nothing_from_serving(
    monkeypatch, environment, words
):
    pytest.importorskip("opentelemetry.sdk")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = []
    traces = traces_of("backbone", "edge", told.append)
    assert type(traces) is Traces
    (sentence,) = told
    assert "traces are off" in sentence
    assert words in sentence


@pytest.mark.parametrize(
    "headers",
    [
        "a=b, x-team geheim",
        "a=b, x team=geheim",
        "a=b, x-team=ügeheim",
        "api-key geheim",
        "x-team: geheim",
        "a=b,geheim",
    ],
)
def test_a_malformed_header_for_the_collector_is_told_without_its_secret(monkeypatch, headers):
    pytest.importorskip("opentelemetry.sdk")
    for name, value in {**ENDPOINT, "OTEL_EXPORTER_OTLP_HEADERS": headers}.items():
        monkeypatch.setenv(name, value)
    told = []
    traces_of("backbone", "edge", told.append).close()
    assert any("Header" in sentence for sentence in told)
    assert not any("geheim" in sentence for sentence in told)


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delitem(sys.modules, "common.telemetry.open_telemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    told = []
    assert type(traces_of("backbone", "edge", told.append)) is Traces
    assert "install tandem-detr[traces]" in told[0]


@pytest.fixture
def without_collector(monkeypatch):
    """Traces that a small queue holds, which nobody takes."""
    pytest.importorskip("opentelemetry.sdk")
    for name, value in {
        **ENDPOINT,
        "OTEL_BSP_MAX_QUEUE_SIZE": "64",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "32",
    }.items():
        monkeypatch.setenv(name, value)
    told = []
    traces = traces_of("backbone", "edge", told.append)
    traces.told = told
    yield traces
    traces.close()


def test_without_a_collector_memory_is_bounded_and_the_end_is_quick(without_collector):
    from opentelemetry.sdk.trace import ReadableSpan

    stream = without_collector.stream()
    timing = StageTiming(
        "edge",
        decode_seconds=0.001,
        execute_seconds=0.002,
        received_at_seconds=time.time(),
        execute_after_seconds=0.001,
    )
    for number in range(2_000):
        with stream.frame("backbone", frame_id=number) as span:
            span.add_steps(timing)
    gc.collect()
    # By its type: torch has an object that warns whoever asks it for its class.
    held = sum(issubclass(type(each), ReadableSpan) for each in gc.get_objects())
    # The queue, what is being exported, and what was in hand.
    assert held <= 64 + 32 + 8
    # It is told, and not at every span.
    assert len(without_collector.told) <= 4
    started = time.monotonic()
    without_collector.close()
    # Its exporter would go on for ten seconds and more.
    assert time.monotonic() - started < 9.0


def test_a_ratio_samples_a_part_of_the_frames(monkeypatch):
    pytest.importorskip("opentelemetry.sdk")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
    traces = traces_of("orchestrator", None, lambda sentence: None)
    try:
        stream = traces.stream()
        spans = [stream.frame("frame") for _ in range(2_000)]
        sampled = [each for each in spans if each.trace_id]
        # 200 are expected, and 100 or 300 would be more than seven standard deviations away.
        assert 100 < len(sampled) < 300
        assert len({each.trace_id for each in sampled}) == len(sampled)
        # Whoever comes after marks the others by nothing, and traces none of them.
        assert stream.metadata == (MARKED,)
        after = traces.stream(stream.metadata)
        assert after.frame("backbone", "") is NOT_TRACED
        assert after.frame("backbone", sampled[0].traceparent).trace_id == sampled[0].trace_id
    finally:
        traces.close()


def test_words_of_an_error_have_no_secrets():
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    from common.telemetry.open_telemetry import ServedTraces

    traces = ServedTraces(sdk.TracerProvider(shutdown_on_exit=False))
    span = traces.stream().frame("frame")
    span.fail("INTERNAL", "rtsp://user:hunter2@camera failed" + "x" * 10_000)
    described = span._span.status.description
    assert "hunter2" not in described
    assert len(described) < 1_000
    traces.close()
