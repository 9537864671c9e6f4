import base64
from array import array
from queue import Queue
from types import SimpleNamespace

from sensor_msgs.msg import Image
from std_msgs.msg import Header


class Node:
    def __init__(self, name):
        self.name = name
        self.published = Queue()
        self.warnings = []
        self._subscriptions = {}

    def declare_parameter(self, name, default):
        import sys

        given = [each.partition(":=")[2] for each in sys.argv if each.startswith(f"{name}:=")]
        return SimpleNamespace(value=given[0] if given else default)

    def create_publisher(self, kind, topic, depth):
        def publish(message):
            assert isinstance(message, kind)
            self.published.put(message)

        return SimpleNamespace(publish=publish)

    def create_subscription(self, kind, topic, callback, profile):
        self._subscriptions[topic] = callback

    def get_logger(self):
        return SimpleNamespace(warning=self.warnings.append)

    def take(self, topic, told):
        """An image has come."""
        fields = {name: told[name] for name in ("height", "width", "encoding", "step")}
        data = array("B", base64.b64decode(told["data"]))
        header = Header(frame_id=told["frame_id"])
        self._subscriptions[topic](Image(header=header, data=data, **fields))
