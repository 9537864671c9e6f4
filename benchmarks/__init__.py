"""Benchmarks: what is reported beside what it is compared with, in one run; never part of tests."""
