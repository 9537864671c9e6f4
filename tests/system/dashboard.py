"""Asks Prometheus every question of the Grafana dashboard: `dashboard.py URL DASHBOARD.json`.

Fails if Prometheus does not understand one, or has no answer to one that it must be able to answer
once frames have flowed.
"""

import json
import sys
import urllib.error
from pathlib import Path

from query import samples

# Not every machine has the sensors; without a fault there is no alert.
MAY_BE_EMPTY = (
    "tandem_power_watts",
    "tandem_gpu_load_ratio",
    "tandem_temperature_celsius",
    "ALERTS",
)


def expressions(dashboard):
    """Each panel's title with each of its expressions."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def fault_of(server, expression):
    """What is wrong with a question; empty if it was answered."""
    try:
        answered = samples(server, expression.replace("$__rate_interval", "5m"))
    except urllib.error.HTTPError as error:
        return error.read().decode()
    if not answered and not any(name in expression for name in MAY_BE_EMPTY):
        return "no samples"
    return ""


def main(server, path):
    """Check the dashboard; what is wrong with it, or 0."""
    asked = list(expressions(json.loads(Path(path).read_text())))
    faults = [
        f"{title}: {fault}: {expression}"
        for title, expression in asked
        if (fault := fault_of(server, expression))
    ]
    sys.stdout.write(f"{len(asked)} questions of the dashboard, {len(faults)} unanswered\n")
    return "\n".join(faults) or 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
