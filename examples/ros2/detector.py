"""A node of ROS 2: images in, detections out, by a running system.

    tandem up                                                          # in another terminal
    python detector.py --ros-args -p server:=127.0.0.1:50050 -r image:=/camera/image_raw

Takes `sensor_msgs/Image` from the topic `image`, and publishes `vision_msgs/Detection2DArray` on
`detections`, with the header of the image. Of images that come faster than they are served, the
newest win. For ROS 2 Jazzy or later, whose Python is new enough: apt-get install ros-jazzy-rclpy \
ros-jazzy-vision-msgs, and tandem-detr in a venv --system-site-packages.
"""

import asyncio
import sys
import threading
from collections import deque

import rclpy
from messages import frame_of, message_of
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from tandem import DetectorClient, OverloadPolicy, TandemError


class Detector(Node):
    """Hands the newest image to the client, and publishes what comes back."""

    def __init__(self) -> None:
        super().__init__("tandem_detector")
        self._server = self.declare_parameter("server", "127.0.0.1:50050").value
        self._loop = asyncio.get_running_loop()
        self._newest = asyncio.Queue(1)
        self._headers = deque()
        self._publisher = self.create_publisher(Detection2DArray, "detections", 10)
        self.create_subscription(Image, "image", self._take, qos_profile_sensor_data)

    def _take(self, image: Image) -> None:
        """On the thread that spins."""
        try:
            self._loop.call_soon_threadsafe(self._put, (image.header, frame_of(image)))
        except ValueError as error:
            self.get_logger().warning(f"an image is left out: {error}")

    def _put(self, pair) -> None:
        if self._newest.full():
            self._newest.get_nowait()
        self._newest.put_nowait(pair)

    async def _frames(self):
        while True:
            header, frame = await self._newest.get()
            self._headers.append(header)
            yield frame

    async def detect(self) -> None:
        """Until the process ends: each frame has one result, in the order of the frames."""
        async with DetectorClient(self._server) as client:
            frames = self._frames()
            async for result in client.detect(frames, overload=OverloadPolicy.DROP_OLDEST):
                header = self._headers.popleft()
                if result.error is not None:
                    self.get_logger().warning(str(result.error))
                elif not result.dropped:
                    self._publisher.publish(message_of(header, result.detections))


async def main() -> None:
    """Spin on a thread of its own, beside the client's event loop."""
    rclpy.init(args=sys.argv)
    node = Detector()
    threading.Thread(target=rclpy.spin, args=(node,), daemon=True).start()
    await node.detect()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except TandemError as error:
        sys.exit(str(error))
