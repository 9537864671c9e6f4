"""ROS 2's messages: an image to a frame of Tandem's, and detections to what `vision_msgs` has."""

import numpy as np
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from tandem import PixelFormat, RawImage

FORMATS = {"rgb8": PixelFormat.RGB8, "bgr8": PixelFormat.BGR8, "mono8": PixelFormat.GRAY8}


def frame_of(image: Image) -> RawImage:
    """The pixels of an image, without what each of its rows is padded with.

    Raises:
        ValueError: it is of another encoding, or has not as many bytes as it says.
    """
    if image.encoding not in FORMATS:
        raise ValueError(f"encoding {image.encoding!r} is not one of {', '.join(FORMATS)}")
    pixel_format = FORMATS[image.encoding]
    rows = np.frombuffer(bytes(image.data), np.uint8).reshape(image.height, image.step)
    pixels = rows[:, : image.width * pixel_format.channels]
    return RawImage(image.width, image.height, pixel_format, pixels.tobytes())


def message_of(header, detections) -> Detection2DArray:
    """What was found, in the pixels of the image that has this header."""
    array = Detection2DArray(header=header)
    for each in detections:
        what, box = ObjectHypothesisWithPose(), each.box
        what.hypothesis.class_id = each.category_name
        what.hypothesis.score = float(each.score)
        found = Detection2D(header=header, results=[what])
        found.bbox.center.position.x = (box.x_min + box.x_max) / 2
        found.bbox.center.position.y = (box.y_min + box.y_max) / 2
        found.bbox.size_x = box.x_max - box.x_min
        found.bbox.size_y = box.y_max - box.y_min
        array.detections.append(found)
    return array
