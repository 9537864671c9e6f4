"""Detect objects in whatever GStreamer can read, on a running system.

    tandem up                                                          # in another terminal
    python appsink.py 127.0.0.1 "videotestsrc num-buffers=60"
    python appsink.py 127.0.0.1 "v4l2src device=/dev/video0"
    python appsink.py tx2.local "nvarguscamerasrc ! nvvidconv"         # a CSI camera of a Jetson

The second argument is the beginning of a pipeline, up to its pictures. Debian and Ubuntu have what
it needs: python3-gi, gir1.2-gst-plugins-base-1.0, gstreamer1.0-plugins-base and -good.
"""

import asyncio
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

from tandem import DetectorClient, InvalidInputError, OverloadPolicy, TandemError  # noqa: E402

# On a Jetson, nvjpegenc takes the place of the middle two.
TO_JPEG = "videoconvert ! jpegenc quality=90 ! appsink name=pictures sync=false max-buffers=2"


class Pipeline:
    """A pipeline; `is_live` says that it does not wait for whoever takes its pictures."""

    def __init__(self, beginning: str) -> None:
        try:
            self._pipeline = Gst.parse_launch(f"{beginning} ! {TO_JPEG}")
        except GLib.Error as error:
            raise InvalidInputError(f"GStreamer: {error.message}") from error
        self._pictures = self._pipeline.get_by_name("pictures")
        state = self._pipeline.set_state(Gst.State.PAUSED)
        self.is_live = state == Gst.StateChangeReturn.NO_PREROLL
        self._pictures.set_property("drop", self.is_live)

    def __iter__(self):
        """The pictures, as JPEG files."""
        self._pipeline.set_state(Gst.State.PLAYING)
        try:
            while not self._pictures.get_property("eos"):
                if sample := self._pictures.emit("try-pull-sample", Gst.SECOND // 5):
                    buffer = sample.get_buffer()
                    yield buffer.extract_dup(0, buffer.get_size())
                elif fault := self._pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR):
                    raise InvalidInputError(f"GStreamer: {fault.parse_error()[0].message}")
        finally:
            self._pipeline.set_state(Gst.State.NULL)


async def main(server: str, beginning: str) -> None:
    """Print what each picture shows; of a live source, the newest wins."""
    pipeline = Pipeline(beginning)
    overload = OverloadPolicy.DROP_OLDEST if pipeline.is_live else OverloadPolicy.BLOCK
    async with DetectorClient(server) as client:
        async for result in client.detect(pipeline, overload=overload):
            names = ", ".join(found.category_name for found in result.detections)
            told = "dropped for a newer one" if result.dropped else result.error or names
            print(f"frame {result.frame_id}: {told or 'nothing'}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    Gst.init(None)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except TandemError as error:
        sys.exit(str(error))
