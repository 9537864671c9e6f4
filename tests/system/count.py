"""Counts answers: reads `tandem detect --json` on stdin, prints what came.

`count.py FRAMES PLACEMENT...` fails unless there are FRAMES answers in order, all of them
detections that one of these placements made.
"""

import collections
import json
import sys


def outcome(answer):
    """What became of one frame, and where."""
    if answer["error"]:
        return "error"
    return "dropped" if answer["dropped"] else f"detections by {answer['placement']}"


def main(frames, *placements):
    answers = [json.loads(line) for line in sys.stdin]
    counts = collections.Counter(outcome(answer) for answer in answers)
    told = [f"{count} {name}" for name, count in counts.items()]
    sys.stdout.write((", ".join(told) or "no answers") + "\n")
    ids = [answer["frame_id"] for answer in answers]
    if len(ids) != int(frames) or ids != sorted(set(ids)):
        return f"expected {frames} answers in order, got {len(ids)}"
    if not set(counts) <= {f"detections by {placement}" for placement in placements}:
        return f"expected detections by {' or '.join(placements)} only"
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
