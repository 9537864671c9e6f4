"""Ask Prometheus how fast a system answers, and what crosses its links.

    python prometheus_query.py http://127.0.0.1:9090

Every service serves Prometheus text at /metrics (ports 9150 to 9152); deploy/prometheus has a
configuration with alerts. What is asked here is what a dashboard asks. Frames are counted by the
orchestrator alone: each stage counts those that pass through it as well.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

QUERIES = {
    "frames a second": 'sum by (placement) (rate(tandem_frames_total{outcome="detections",'
    'job="orchestrator"}[1m]))',
    "95 % are answered within seconds": "histogram_quantile(0.95, sum by (placement, le) "
    '(rate(tandem_frame_latency_seconds_bucket{job="orchestrator"}[1m])))',
    "bytes a second over links": "sum by (peer, direction) (rate(tandem_link_bytes_total[1m]))",
}


def ask(prometheus: str, query: str) -> list[tuple[str, float]]:
    """The labels and the value of each series that answers the query now."""
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    with urllib.request.urlopen(url, timeout=10) as response:
        series = json.load(response)["data"]["result"]
    return [
        (", ".join(f"{name} {value}" for name, value in each["metric"].items()), value)
        for each in series
        # Over a time without frames a rate of quantiles is not a number.
        if (value := float(each["value"][1])) > 0
    ]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        for title, query in QUERIES.items():
            for labels, value in ask(sys.argv[1], query):
                print(f"{title}: {labels}: {value:.3g}")
    except (urllib.error.URLError, ValueError) as error:
        sys.exit(f"Prometheus at {sys.argv[1]} does not answer: {error}")
