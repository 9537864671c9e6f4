"""A frame of a stage has exactly one answer, whatever its steps do, and is counted until then."""

from types import SimpleNamespace

import pytest
from google.rpc import code_pb2

from common.domain.detections import DetectionOptions, StageTiming
from common.domain.errors import EngineError
from common.domain.placement import NodePair, Stage
from common.telemetry.metrics import Metrics
from common.telemetry.tracing import Traces
from protos.tandem.v1 import stage_pb2
from services.pipeline.frame_stream import FrameStream, StreamFacts


class Charge:
    """What a frame holds; counts how often it was given back."""

    released = 0

    def release(self):
        self.released += 1


class ToyStream(FrameStream):
    """Keeps its frames under way until a test goes on with them; an outcome is called."""

    def __init__(self):
        self.charge = Charge()
        host = SimpleNamespace(
            stage=Stage.TRANSFORMER,
            node="edge",
            metrics=Metrics(),
            traces=Traces(),
            held=SimpleNamespace(count=0),
        )
        facts = StreamFacts("s", NodePair("edge", "edge"), "edge", DetectionOptions())
        stream = SimpleNamespace(metadata=(), take=lambda: self.charge)
        super().__init__(host, None, facts, stream)
        self.under_way = None

    def frames(self):
        return self.stream

    def size_bytes(self, frame):
        return 3

    def serve_frame(self, frame, under_way):
        if not frame.frame_id:
            raise EngineError("no frame 0")
        under_way.passage = self.passage = SimpleNamespace(is_wanted=True)
        self.under_way = under_way

    def go_on(self, under_way, outcome):
        under_way.served(outcome(), StageTiming("edge"))

    def counted(self, outcome):
        labels = {"placement": "backbone=edge,transformer=edge", "outcome": outcome}
        placement = {**labels, "placement": self.placement_name}
        return self.host.metrics.registry.get_sample_value("tandem_frames_total", placement)


@pytest.fixture
def stream():
    return ToyStream()


def begun(stream, frame_id=7):
    return stream.begin(stage_pb2.Features(frame_id=frame_id))


def found():
    result = stage_pb2.FrameResult(frame_id=7)
    result.detections.SetInParent()
    return result


def test_a_frame_is_answered_and_counted_once(stream):
    pending = begun(stream)
    assert stream.host.held.count == 1
    under_way = stream.under_way
    stream.passed(under_way, found, None)
    stream.passed(under_way, None, EngineError("too late"))
    result = pending.result().result
    assert result.WhichOneof("result") == "detections"
    assert result.timing.transformer.request_bytes == 3
    assert result.transformer_in_flight == stream.host.held.count == 0
    assert (stream.counted("detections"), stream.counted("error")) == (1, None)
    assert stream.charge.released == 1


@pytest.mark.parametrize("place", ["beginning", "pipeline", "afterwards"])
def test_what_fails_a_frame_is_its_answer(stream, place):
    def fail():
        raise EngineError("no luck")

    pending = begun(stream, 0 if place == "beginning" else 7)
    if place == "pipeline":
        stream.passed(stream.under_way, None, EngineError("no luck"))
    elif place == "afterwards":
        stream.passed(stream.under_way, fail, None)
    error = pending.result().result.error
    assert error.code == code_pb2.INTERNAL
    assert stream.counted("error") == 1
    assert (stream.host.held.count, stream.charge.released) == (0, 1)


def test_what_is_no_frames_fault_ends_the_stream(stream):
    pending = begun(stream)
    stream.passed(stream.under_way, None, SystemExit())
    with pytest.raises(SystemExit):
        pending.result()
    pending = begun(stream)
    # An answer that cannot be written to.
    stream.passed(stream.under_way, lambda: None, None)
    with pytest.raises(AttributeError):
        pending.result()
    assert stream.host.held.count == 0


def test_a_frame_that_is_given_up_takes_no_further_step(stream):
    pending = begun(stream)
    under_way = stream.under_way
    assert pending.abandon() == []
    assert not stream.passage.is_wanted
    stream.passed(under_way, found, None)
    assert (stream.counted("detections"), stream.counted("error")) == (None, None)
    assert (stream.host.held.count, stream.charge.released) == (0, 1)
