"""Memory and power of the services: sampled from their metrics, as rows, and what a node's are.

`python -m experiments.placements.samples PERIOD STAGE=URL...` samples in a process of its own, on
the node whose services it asks, and prints a line of JSON a sample.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, TextIO

from prometheus_client.parser import text_string_to_metric_families

MEMORY = "tandem_memory_bytes"
POWER = "tandem_power_watts"
PERIOD_SECONDS = 0.1
_TIMEOUT_SECONDS = 5.0
_LABELS = {MEMORY: "kind", POWER: "rail"}
# Nothing else is collected then: a scrape of all metrics takes ten times as long.
_QUERY = f"?name[]={MEMORY}&name[]={POWER}"
# The rail that is the whole module on a Jetson TX2.
_WHOLE_JETSON = "VDD_IN"
# RAPL's packages, which contain their cores, and NVML's GPUs.
_DEVICES_OF_A_PC = re.compile(r"package-\d+|gpu\d+")
_OF_A_PROCESS = "process_"


@dataclass(frozen=True)
class Reading:
    """One value of one service.

    Attributes:
        metric: `tandem_memory_bytes` or `tandem_power_watts`.
        label: kind of memory, or rail.
        value: bytes or watts.
    """

    metric: str
    label: str
    value: float


def parse_metrics(text: str) -> list[Reading]:
    """Memory and power in a service's Prometheus text; others are passed over."""
    return [
        Reading(sample.name, sample.labels[_LABELS[sample.name]], sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in _LABELS
    ]


def samples(urls: Mapping[str, str], period_seconds: float) -> Iterator[dict[str, object]]:
    """Scrape every service at each period; a period that was missed is left out.

    Args:
        urls: of /metrics, by stage.
        period_seconds: between two samples.

    Yields:
        When (monotonic seconds), this process's CPU seconds so far, and each stage's readings.
    """
    # Nodes are asked themselves, whatever proxy this user has for the web.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    due = time.monotonic()
    while True:
        at = time.monotonic()
        stages = {stage: [vars(one) for one in _scrape(opener, url)] for stage, url in urls.items()}
        yield {"at": at, "cpu_seconds": time.process_time(), "stages": stages}
        while due <= time.monotonic():
            due += period_seconds
        time.sleep(max(0.0, due - time.monotonic()))


def _scrape(opener: urllib.request.OpenerDirector, url: str) -> list[Reading]:
    with opener.open(url + _QUERY, timeout=_TIMEOUT_SECONDS) as answer:
        return parse_metrics(answer.read().decode())


@dataclass(frozen=True)
class SampleRow:
    """One value, as in `samples.csv`.

    Attributes:
        at_seconds: by this machine's monotonic clock, as `answered_at_seconds` of the frames.
        phase: that was measured then; empty before, between and after.
        node: that was asked.
        stage: whose service told it.
        metric: `tandem_memory_bytes` or `tandem_power_watts`.
        label: kind of memory, or rail.
        value: bytes or watts.
    """

    at_seconds: float
    phase: str
    node: str
    stage: str
    metric: str
    label: str
    value: float


def sample_rows(
    node: str, told: Sequence[Mapping[str, Any]], spans: Mapping[str, tuple[float, float]]
) -> list[SampleRow]:
    """Rows of what one sampler told.

    Args:
        node: that it sampled.
        told: lines of `experiments.placements.samples`.
        spans: first and last moment of each phase.
    """
    rows = []
    for sample in told:
        at = float(sample["at"])
        phase = next((name for name, (begin, end) in spans.items() if begin <= at <= end), "")
        for stage, readings in sample["stages"].items():
            rows += [SampleRow(at, phase, node, stage, **reading) for reading in readings]
    return rows


def write_samples(rows: Sequence[SampleRow], file: TextIO) -> None:
    """Write `samples.csv`."""
    writer = csv.DictWriter(file, [field.name for field in fields(SampleRow)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)


def read_samples(file: TextIO) -> list[SampleRow]:
    """Read `samples.csv`."""
    return [
        SampleRow(
            at_seconds=float(row.pop("at_seconds")),
            value=float(row.pop("value")),
            **row,
        )
        for row in csv.DictReader(file)
    ]


def node_memory_bytes(rows: Sequence[SampleRow], node: str, kind: str) -> float | None:
    """Median memory of a node; None where it was not told.

    Args:
        rows: of the phase that is of interest.
        node: of interest.
        kind: of `tandem_memory_bytes`. Memory of processes is summed over the node's services;
            any other is the whole device's, which each of them tells alike.
    """
    moments: dict[float, list[float]] = defaultdict(list)
    for row in rows:
        if row.node == node and row.metric == MEMORY and row.label == kind:
            moments[row.at_seconds].append(row.value)
    if not moments:
        return None
    whole = sum if kind.startswith(_OF_A_PROCESS) else max
    return statistics.median(float(whole(values)) for values in moments.values())


def node_watts(rows: Sequence[SampleRow], node: str, rail: str | None) -> float | None:
    """Median power of a node; None where no sensor can be read, or no rail is known to be all.

    Args:
        rows: of the phase that is of interest.
        node: of interest.
        rail: that is the whole device; None looks for a Jetson's, or adds up a PC's processor
            packages and GPUs, and takes a single rail for all.
    """
    moments: dict[float, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row.node == node and row.metric == POWER:
            # Two services of one node tell the same sensor.
            moments[row.at_seconds][row.label] = row.value
    told = [_whole_device(rails, rail) for rails in moments.values()]
    known = [watts for watts in told if watts is not None]
    return statistics.median(known) if known else None


def _whole_device(rails: Mapping[str, float], rail: str | None) -> float | None:
    if rail is not None:
        return rails.get(rail)
    if _WHOLE_JETSON in rails:
        return rails[_WHOLE_JETSON]
    devices = [watts for name, watts in rails.items() if _DEVICES_OF_A_PC.fullmatch(name)]
    if devices:
        return sum(devices)
    return next(iter(rails.values())) if len(rails) == 1 else None


def main() -> None:
    """Sample until stopped."""
    period, *services = sys.argv[1:]
    urls = dict(service.split("=", 1) for service in services)
    try:
        for sample in samples(urls, float(period)):
            sys.stdout.write(json.dumps(sample) + "\n")
            sys.stdout.flush()
    except OSError as error:
        sys.exit(f"the metrics of {', '.join(urls.values())} cannot be read: {error}")


if __name__ == "__main__":
    main()
