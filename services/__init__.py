"""The three services; none of them imports another."""

import common  # noqa: F401 - before gRPC
