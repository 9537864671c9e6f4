"""The memory of services that serve video, measured as `benchmarks.memory --video` does."""

import pytest

from benchmarks.memory import SAMPLES, measure_video
from tests.harness import TOY_BUNDLE

pytestmark = pytest.mark.slow

# Of a short run, in which caches still fill up; a stream's whole video would be no more than this,
# so what a leak of frames costs is measured by the long run.
MOST_MEBIBYTES = 25.0


async def test_switches_amid_groups_leave_no_decoder_behind():
    measured = await measure_video(TOY_BUNDLE, 5 * SAMPLES)
    assert [len(each.samples) for each in measured] == [SAMPLES] * 7
    assert {each.name: each.growth for each in measured if each.growth > MOST_MEBIBYTES} == {}
    # One for each of its routes, and the live stream's; 20 switches would leave ten each.
    decoders = {each.name: each.decoders for each in measured[5:]}
    assert set(decoders) == {"edge backbone's decoder", "workstation backbone's decoder"}
    assert max(decoders.values()) <= 4
    assert decoders["edge backbone's decoder"] >= 1
