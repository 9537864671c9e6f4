"""Memory and power of one node, read from its services' /metrics; a process of its own.

`python -m experiments.placements.sampling PERIOD_SECONDS STAGE=URL...` prints one line of JSON a
sample until it is stopped. It runs in the node's network, so that what it reads does not cross the
link that is measured. Memory is read by the services when they are asked; power sensors are read
by them once a second, so that ten samples in a row may tell the same watts.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

MEMORY = "tandem_memory_bytes"
POWER = "tandem_power_watts"
PERIOD_SECONDS = 0.1
_TIMEOUT_SECONDS = 5.0
_LABELS = {MEMORY: "kind", POWER: "rail"}
# Nothing else is collected then: a scrape of all metrics takes ten times as long.
_QUERY = f"?name[]={MEMORY}&name[]={POWER}"


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
