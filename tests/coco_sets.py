"""Small COCO sets, with real pictures, to be damaged by tests."""

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

CATEGORIES = ({"id": 1, "name": "person"}, {"id": 3, "name": "car"})
HEIGHT, WIDTH = 48, 64


@dataclass
class CocoSet:
    """What will be written into a folder."""

    folder: Path
    content: dict = field(default_factory=dict)

    @property
    def images(self):
        return self.folder / "images"

    @property
    def annotations(self):
        """The file, written anew."""
        path = self.folder / "instances.json"
        path.write_text(json.dumps(self.content))
        return path


def coco_set(folder, count=3):
    """Pictures of 64 x 48 with ids 10, 20, ..., not listed in order, each with two objects."""
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(count)
    images, annotations = [], []
    for number in range(10 * count, 0, -10):
        name = f"{number}.png"
        pixels = random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / name), pixels)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for category, box in ((1, [4, 6, 20, 30]), (3, [30, 10, 25, 16])):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": copy.deepcopy(list(CATEGORIES)),
    }
    return CocoSet(folder, content)
