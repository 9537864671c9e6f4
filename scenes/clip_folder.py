"""A clip's folder: `clip.mp4`, and `annotations.json` in COCO's format."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

from common.domain.errors import ConfigurationError
from scenes.coco_format import instances
from scenes.compositor import Scene

CLIP_NAME, ANNOTATIONS_NAME = "clip.mp4", "annotations.json"
CAMERA_NAME = "camera.mp4"
FRAMES_PER_SECOND = 24

WITHOUT_LOSS = {"qp": "0", "preset": "veryfast"}
"""Options of H.264 with which a clip's frames are what the camera saw, in 4:2:0."""

# Cameras have no B frames, which would come late, and a key frame every second or two.
_AS_A_CAMERA = {"crf": "17", "preset": "slow", "bf": "0", "g": str(2 * FRAMES_PER_SECOND)}


def write_camera_clip(folder: Path) -> Path:
    """Write `camera.mp4`: the frames of `clip.mp4` in a clip's folder, encoded as by a camera.

    Returns:
        Its path.

    Raises:
        ConfigurationError: there is no such clip.
    """
    import av

    clip, camera = folder / CLIP_NAME, folder / CAMERA_NAME
    if not clip.is_file():
        raise ConfigurationError(f"there is no {CLIP_NAME} in {folder}")
    with av.open(str(clip)) as source, av.open(str(camera), "w") as container:
        video = source.streams.video[0]
        stream = container.add_stream("libx264", rate=video.average_rate)
        stream.width, stream.height = video.width, video.height
        stream.pix_fmt, stream.options = "yuv420p", dict(_AS_A_CAMERA)
        for frame in source.decode(video):
            frame.pict_type = av.video.frame.PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return camera


def write_clip_folder(
    scenes: Iterable[Scene],
    folder: Path,
    description: str,
    options: Mapping[str, str] = WITHOUT_LOSS,
) -> tuple[Path, Path]:
    """Write `clip.mp4` (H.264) and `annotations.json` (image id = frame number from 0).

    Args:
        scenes: the frames, all of one size, with even sides.
        folder: is made if need be.
        description: of the clip, for the annotations.
        options: of libx264.

    Returns:
        Both paths.
    """
    import av

    folder.mkdir(parents=True, exist_ok=True)
    video, annotations = folder / CLIP_NAME, folder / ANNOTATIONS_NAME
    pictures = []
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(FRAMES_PER_SECOND))
        stream.pix_fmt, stream.options = "yuv420p", dict(options)
        for number, scene in enumerate(scenes):
            height, width = scene.pixels.shape[:2]
            if number == 0:
                stream.width, stream.height = width, height
            frame = av.VideoFrame.from_ndarray(scene.pixels, format="rgb24")
            container.mux(stream.encode(frame))
            pictures.append((number, f"{number:06d}.jpg", height, width, scene.objects))
        container.mux(stream.encode())
    content = instances(pictures, f"{description}; image id = frame number of {CLIP_NAME}, from 0")
    annotations.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return video, annotations
