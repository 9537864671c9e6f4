"""The client library and the `tandem` command.

`tandem.client.DetectorClient` streams frames in and detections out; its module's docstring
shows it in five lines. The command is composed in `tandem.__main__`.
"""

import common  # noqa: F401 - before gRPC
