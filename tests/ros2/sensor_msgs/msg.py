from array import array
from functools import partial

from messages_of_ros import message
from std_msgs.msg import Header

Image = message(
    "Image",
    header=Header,
    height=0,
    width=0,
    encoding="",
    is_bigendian=0,
    step=0,
    data=partial(array, "B"),
)
