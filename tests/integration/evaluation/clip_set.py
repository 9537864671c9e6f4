"""Frames of the shipped clip as sets in COCO's format."""

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2

from tandem.pictures import decode_picture
from tandem.shipped import shipped_clip
from tandem.sources import open_source

# Every so many frames of the clip's 240.
STEP = 10
# What `models/demo-r50` sees; height, width.
NETWORK_SIZE = (144, 192)
# Columns and rows that are kept of a reduced frame: whole, a portrait, a panorama.
CROPS = ((192, 144), (120, 144), (192, 96))


@dataclass(frozen=True)
class ClipSet:
    """A set on disk."""

    images: Path
    annotations: Path

    @property
    def options(self):
        """Of `tandem evaluate`."""
        return ("--images", self.images, "--annotations", self.annotations)

    def content(self):
        return json.loads(self.annotations.read_text())


def write_clip_set(folder):
    """Frames as they are."""
    truth = json.loads((shipped_clip().parent / "annotations.json").read_text())
    pictures = dict(_frames())
    annotations = [each for each in truth["annotations"] if each["image_id"] in pictures]
    return _write(folder, truth, pictures, annotations)


def write_network_set(folder):
    """Frames at the network's size, so that nothing is resized; two of three are letterboxed."""
    truth = json.loads((shipped_clip().parent / "annotations.json").read_text())
    pictures, annotations = {}, []
    for index, (number, frame) in enumerate(_frames()):
        height, width = NETWORK_SIZE
        columns, rows = CROPS[index % len(CROPS)]
        scale = width / frame.shape[1]
        reduced = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        pictures[number] = reduced[:rows, :columns]
        for each in truth["annotations"]:
            x, y, w, h = (scale * value for value in each["bbox"])
            w, h = min(x + w, columns) - x, min(y + h, rows) - y
            if each["image_id"] == number and w > 4 and h > 4:
                annotations.append({**each, "bbox": [x, y, w, h], "area": w * h})
    return _write(folder, truth, pictures, annotations)


def _frames():
    with closing(open_source(str(shipped_clip()))) as source:
        for number, frame in enumerate(source):
            if number % STEP == 0:
                yield number, decode_picture(frame.image)


def _write(folder, truth, pictures, annotations):
    (folder / "images").mkdir(parents=True)
    listed = []
    for number, pixels in pictures.items():
        name = f"{number:06d}.png"
        cv2.imwrite(str(folder / "images" / name), pixels)
        height, width = pixels.shape[:2]
        listed.append({"id": number, "file_name": name, "height": height, "width": width})
    # Not by id: the order of a file says nothing.
    content = {**truth, "images": listed[::-1], "annotations": annotations}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return ClipSet(folder / "images", path)
