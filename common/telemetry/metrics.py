"""The metrics of the contract, in base units; every service serves all of them.

Their names and labels are fixed, because dashboards and alerts rely on them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Callable, Dict, Iterable, Optional, Sequence, Set, Tuple, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from common.domain.detections import StageTiming
from common.domain.models import MOST_MODELS
from common.telemetry.notes import NotedRegistry, Notes
from common.telemetry.sensors.base import Sensor
from common.telemetry.sensors.collector import SensorCollector
from common.telemetry.tracing import NOT_TRACED, Span

# From a toy engine on a workstation (1 ms) to a large model on the edge's CPU (10 s).
_SECONDS_BUCKETS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1),
    *(0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0),
)
_STEP_BUCKETS = (0.0001, 0.0002, 0.0005, *_SECONDS_BUCKETS)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
_MAX_PLACEMENTS = 40
_MAX_PEERS = 64
_DEFAULT_MODEL = "default"
STEPS = ("decode", "preprocess", "queue", "execute", "encode", "transfer", "postprocess")
OTHER = "other"
"""The label that stands for every name that is not known."""

_WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=,:-]*")
_MAX_CHARACTERS = 150


Metric = TypeVar("Metric", Counter, Histogram)


class LabelNames:
    """Names that become labels: a bounded number, whatever peers call themselves.

    Some names are known from the start, and the first few others that come are learnt.
    """

    def __init__(self, known: Iterable[str] = (), room: int = 0) -> None:
        """Begin with the names of the configuration, and learn up to `room` others."""
        self._known: Set[str] = set(known)
        self._room = room

    def label(self, name: str) -> str:
        """The name itself if it is known, else `OTHER`."""
        if name in self._known:
            return name
        if self._room and len(name) <= _MAX_CHARACTERS and _WELL_FORMED.fullmatch(name):
            self._room -= 1
            self._known.add(name)
            return name
        return OTHER


class Metrics:
    """One service's metrics, in a registry of their own.

    What frames count and observe is noted, and added up before somebody reads; see `Notes`.

    Attributes:
        registry: holds all of them.
        sensors: what this machine's sensors tell; a `MetricsServer` starts and stops reading them.
    """

    def __init__(self, sensors: Sequence[Sensor] = ()) -> None:
        """Register every metric of the contract, and those of `sensors`."""
        notes = Notes()
        self.registry = NotedRegistry(notes)
        self._note = notes.add
        # With all the rest, fewer than 2,000 series.
        self._placements = LabelNames(room=_MAX_PLACEMENTS)
        self._peers = LabelNames(room=_MAX_PEERS)
        # Theirs is a look-up behind a lock, after a check of the labels.
        self._known_series: Dict[Tuple[Any, Tuple[str, ...]], Any] = {}
        self.frames = Counter(
            "tandem_frames",
            "Frames answered, by placement and outcome (detections, error, dropped).",
            ["placement", "outcome"],
            registry=self.registry,
        )
        self._models = LabelNames(known=(_DEFAULT_MODEL,), room=MOST_MODELS)
        self.model_frames = Counter(
            "tandem_model_frames",
            "Frames that the orchestrator answered, by model (default: that of streams that name "
            "none) and outcome.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.frame_latency = Histogram(
            "tandem_frame_latency_seconds",
            "From reading a frame to writing its answer, in this service.",
            ["placement"],
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "tandem_stage_seconds",
            "Time of each step of a stage; transfer is the way to the stage and back.",
            ["stage", "step"],
            buckets=_STEP_BUCKETS,
            registry=self.registry,
        )
        self.batch_frames = Histogram(
            "tandem_batch_frames",
            "Frames that the engine executed together.",
            ["stage"],
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self.link_bytes = Counter(
            "tandem_link_bytes",
            "Bytes of images and features exchanged with a peer; direction is sent or received.",
            ["peer", "direction"],
            registry=self.registry,
        )
        self.key_frames = Counter(
            "tandem_key_frames",
            "Frames whose latents were coded alone, by reason (first, size, missing).",
            ["reason"],
            registry=self.registry,
        )
        self.decode_only_frames = Counter(
            "tandem_decode_only_frames",
            "Frames of video sent to a stage to be decoded only, since later ones need them.",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "tandem_in_flight_frames",
            "Frames read and not yet answered.",
            registry=self.registry,
        )
        self.window = Gauge(
            "tandem_window_frames",
            "Frames that the open sessions may have in flight.",
            registry=self.registry,
        )
        self.placement = Gauge(
            "tandem_placement_info",
            "1 for the placement of streams that leave it to the server.",
            ["placement"],
            registry=self.registry,
        )
        self.node_up = Gauge(
            "tandem_node_up",
            "1 while a stage of a node is serving, as seen by this service.",
            ["node", "stage"],
            registry=self.registry,
        )
        self.loaded_bundles = Gauge(
            "tandem_loaded_bundles",
            "Bundles in this stage's memory; more than its models while it changes over.",
            registry=self.registry,
        )
        self.replicas = Gauge(
            "tandem_replicas",
            "Servers of a stage of a node, by state (serving, unavailable, leaving).",
            ["node", "stage", "state"],
            registry=self.registry,
        )
        self.failed_lookups = Counter(
            "tandem_failed_lookups",
            "Lookups of a name of a node's stage that gave no address.",
            ["node", "stage"],
            registry=self.registry,
        )
        self.switches = Counter(
            "tandem_switches",
            "Changes of the placement of streams that leave it to the server, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.failovers = Counter(
            "tandem_failovers",
            "Stages and routes lost, by kind of fault.",
            ["reason"],
            registry=self.registry,
        )
        self.replayed_frames = Counter(
            "tandem_replayed_frames",
            "Frames sent again since their route was lost.",
            registry=self.registry,
        )
        self.rate_changes = Counter(
            "tandem_rate_changes",
            "Changes of the latent rate of a stream, by the codec that was taken.",
            ["codec"],
            registry=self.registry,
        )
        self.probe_frames = Counter(
            "tandem_probe_frames",
            "Copies of frames sent for measurement only.",
            registry=self.registry,
        )
        self.predicted_frames_per_second = Gauge(
            "tandem_predicted_frames_per_second",
            "Throughput that the orchestrator expects of a placement.",
            ["placement"],
            registry=self.registry,
        )
        self.stage_estimate = Gauge(
            "tandem_stage_estimate_seconds",
            "Time of one execution, as the orchestrator estimates it.",
            ["node", "stage"],
            registry=self.registry,
        )
        self.link_estimate = Gauge(
            "tandem_link_estimate_bytes_per_second",
            "Throughput of the way between two places, as the orchestrator estimates it.",
            ["source", "destination"],
            registry=self.registry,
        )
        self.sensors = SensorCollector(sensors)
        self.registry.register(self.sensors)

    def tell_certificate(self, ends_at_seconds: Callable[[], float]) -> None:
        """Tell when the service's certificate ends; a service without one has no such metric.

        Args:
            ends_at_seconds: of the certificate that is in use at the time, in seconds since 1970.
        """
        Gauge(
            "tandem_certificate_expiry_timestamp_seconds",
            "When this service's certificate ends, in seconds since 1970.",
            registry=self.registry,
        ).set_function(ends_at_seconds)

    def observe_stage(self, stage: str, timing: StageTiming, span: Span = NOT_TRACED) -> None:
        """Record how long each step of a stage took; `transfer` is known to the caller only.

        Args:
            stage: which half.
            timing: of the frame.
            span: of the frame; a traced one becomes the exemplar of what is recorded.
        """
        self._note(self._observe_stage, stage, timing, span)

    def observe_transfer(self, stage: str, seconds: float, span: Span = NOT_TRACED) -> None:
        """Record how long the way to a stage and back took; for `span` see `observe_stage`."""
        self._note(self._observe_step, stage, "transfer", seconds, _exemplar(span))

    def observe_frame(
        self, placement: str, outcome: str, seconds: float, span: Span = NOT_TRACED
    ) -> None:
        """Record one answered frame; for `span` see `observe_stage`."""
        self._note(self._observe_frame, placement, outcome, seconds, span)

    def batches_of(self, stage: str) -> Callable[[int], None]:
        """What records an execution of so many frames of a stage."""
        return partial(self._note, self.batch_frames.labels(stage).observe)

    def count_model_frame(self, model: str, outcome: str) -> None:
        """Count a frame that was answered, by its model; empty: the default one."""
        self._note(self._count_model_frame, model, outcome)

    def count_frame(self, placement: str, outcome: str) -> None:
        """Count one answered frame whose latency says nothing, so that it is not recorded."""
        self._note(self._count_frame, placement, outcome)

    def count_failed_lookup(self, stage: str, node: str) -> None:
        """Count a lookup of a name that gave no address."""
        self.failed_lookups.labels(node, stage).inc()

    def count_bytes(self, peer: str, direction: str, count: int) -> None:
        """Count bytes that were `sent` to a peer or `received` from it."""
        self._note(self._count_bytes, peer, direction, count)

    def _observe_stage(self, stage: str, timing: StageTiming, span: Span) -> None:
        exemplar = _exemplar(span)
        for step in STEPS:
            seconds = getattr(timing, f"{step}_seconds")
            if seconds > 0.0:
                self._observe_step(stage, step, seconds, exemplar)

    def _observe_step(
        self, stage: str, step: str, seconds: float, exemplar: Optional[Dict[str, str]]
    ) -> None:
        self._series(self.stage_seconds, stage, step).observe(seconds, exemplar)

    def _observe_frame(self, placement: str, outcome: str, seconds: float, span: Span) -> None:
        self._count_frame(placement, outcome)
        latency = self._series(self.frame_latency, self._placements.label(placement))
        latency.observe(seconds, _exemplar(span))

    def _count_model_frame(self, model: str, outcome: str) -> None:
        name = self._models.label(model or _DEFAULT_MODEL)
        self._series(self.model_frames, name, outcome).inc()

    def _count_frame(self, placement: str, outcome: str) -> None:
        self._series(self.frames, self._placements.label(placement), outcome).inc()

    def _count_bytes(self, peer: str, direction: str, count: int) -> None:
        self._series(self.link_bytes, self._peers.label(peer), direction).inc(count)

    def _series(self, metric: Metric, *labels: str) -> Metric:
        """What a metric counts with these labels; every frame asks for several of them."""
        key = (metric, labels)
        known = self._known_series.get(key)
        if known is None:
            known = self._known_series[key] = metric.labels(*labels)
        return known


def _exemplar(span: Span) -> Optional[Dict[str, str]]:
    """What leads from a bucket to a trace, for a scraper that asks for OpenMetrics."""
    return {"trace_id": span.trace_id, "span_id": span.span_id} if span.trace_id else None
