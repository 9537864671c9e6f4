"""Asks Prometheus: `query.py URL EXPRESSION` prints each sample, `VALUE LABELS`, a line each."""

import json
import sys
import urllib.parse
import urllib.request


def samples(server, expression):
    """The instant vector that an expression yields: (value, labels) for each sample."""
    query = urllib.parse.urlencode({"query": expression})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{server}/api/v1/query?{query}", timeout=10) as answer:
        result = json.load(answer)["data"]["result"]
    return [(float(each["value"][1]), each["metric"]) for each in result]


if __name__ == "__main__":
    try:
        found = samples(*sys.argv[1:])
    except OSError as error:
        # Of a server that starts: it is asked again.
        sys.exit(f"query.py: no answer: {error}")
    for value, labels in found:
        names = ",".join(f"{name}={text}" for name, text in sorted(labels.items()))
        sys.stdout.write(f"{value:g} {names}\n")
