"""`python -m experiments.family_parity [NAME ...]`: a row for each size, as it is measured.

A model of the published configuration and random weights is exported, run through local services
with the placement `backbone` and the codec fp32, and compared with transformers' whole model. Rows
are appended to `--output` as JSON lines; what stands there already is not measured again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from common.domain.errors import TandemError
from experiments.family_parity.measuring import measure
from experiments.family_parity.subjects import NAMES


def main() -> None:
    """Measure what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="sizes; all if left out")
    parser.add_argument("--output", type=Path, default=Path("output/family-parity.jsonl"))
    parser.add_argument("--sampling", choices=("default", "discrete"))
    asked = parser.parse_args()
    unknown = [name for name in asked.names if name not in NAMES]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(NAMES)}")
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    lines = asked.output.read_text().splitlines() if asked.output.exists() else []
    known = {(row["model"], row["sampling"]) for row in map(json.loads, lines)}
    failed: list[str] = []
    for name in asked.names or NAMES:
        if (name, asked.sampling) in known:
            continue
        try:
            row = asyncio.run(measure(name, asked.sampling))
        except TandemError as error:
            sys.stderr.write(f"{name}: {error}\n")
            failed.append(name)
            continue
        text = json.dumps(row)
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
        with asked.output.open("a") as file:
            file.write(f"{text}\n")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
