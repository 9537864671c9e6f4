"""How long a run will take, from what a few steps showed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from detr.training.rehearsal import Rehearsal

FOUND = Rehearsal(
    name="demo",
    device="the CPU, 2 threads",
    parameters=2_500_000,
    steps=600,
    batch_size=8,
    step_seconds=0.5,
    loader_images_per_second=32.0,
    peak_memory_bytes=700_000_000,
    minutes=None,
)


@pytest.mark.parametrize(("loader", "seconds"), [(32.0, 300), (16.0, 300), (4.0, 1200)])
def test_the_slower_of_steps_and_loader_decides(loader, seconds):
    assert replace(FOUND, loader_images_per_second=loader).run_seconds == seconds


def test_a_run_by_steps_is_told_in_minutes_with_what_slows_it():
    assert "600 steps  about 5.0 minutes, which the step decides" in FOUND.text()
    slow = replace(FOUND, loader_images_per_second=4.0)
    assert "600 steps  about 20.0 minutes, which the loader decides" in slow.text()


def test_a_run_by_time_is_told_in_steps():
    assert replace(FOUND, minutes=2.5).text().endswith("2.5 minutes  about 300 steps")
