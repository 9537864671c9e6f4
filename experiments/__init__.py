"""Measurements of the running system: benchmarks, evaluation, the thesis's experiment."""

import common  # noqa: F401 - before gRPC
