"""Measurements of the running system: benchmarks, evaluation, the thesis's experiment."""
