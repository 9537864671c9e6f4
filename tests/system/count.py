"""Counts answers, and what they found: reads `tandem detect --json` on stdin, prints what came.

`count.py FRAMES PLACEMENT...` fails unless there are FRAMES answers in order, all of them
detections that one of these placements made, and unless these are what the shipped model finds in
the shipped clip: a model, a resize or a table of categories gone wrong is answered promptly too.
"""

import collections
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from common.domain.detections import Box, Detection  # noqa: E402
from common.domain.errors import ServiceError  # noqa: E402
from tandem.shipped import check_clip_accuracy, load_objects, match_frame, shipped_clip, tally  # noqa: E402  # noqa: E402

MODEL = "demo-r50"


def outcome(answer):
    """What became of one frame, and where."""
    if answer["error"]:
        return "error"
    return "dropped" if answer["dropped"] else f"detections by {answer['placement']}"


def detections(answer):
    """Of one frame."""
    return [
        Detection(one["category_id"], one["category_name"], one["score"], Box(*one["box"]))
        for one in answer["detections"]
    ]


def found(answers):
    """What the answers say about the clip's objects."""
    objects = load_objects(shipped_clip().with_name("annotations.json"))
    return tally(match_frame(detections(one), objects[one["frame_id"]]) for one in answers)


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
    clip = found(answers)
    sys.stdout.write(
        f"found {clip.found} of {clip.objects} objects, invented {clip.invented}, "
        f"{clip.perfect_frames} of {clip.frames} frames are perfect\n"
    )
    try:
        check_clip_accuracy(MODEL, clip)
    except ServiceError as error:
        return str(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
