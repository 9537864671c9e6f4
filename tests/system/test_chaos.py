"""Whatever dies, hangs or is cut off: every frame is answered once, in order, without an error.

The frames whose latents are coded over time have the boxes of an undisturbed run, and so have
those of video, each of which can be decoded only after others.

`--chaos-seconds 180` runs the whole of it, `--chaos-seed` another course of events.
"""

import sys
from collections import defaultdict
from contextlib import ExitStack

import pytest

from services.orchestrator.settings import OrchestratorSettings
from tests.cameras import Camera, assert_own_boxes, boxes_of_pictures, streaming
from tests.harness import Cluster
from tests.streams import status
from tests.system.cuttable import CuttableLink, why_not
from tests.system.faults import Chaos
from tests.system.gaps import longest_gaps, table
from tests.video_cameras import VideoCamera, boxes_of_clip

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(900)]

# What users get who set nothing, and not the patience of other tests.
AS_SHIPPED = tuple(
    word
    for setting in ("health_timeout_seconds", "unavailable_after")
    for word in (
        "--" + setting.replace("_", "-"),
        str(OrchestratorSettings.model_fields[setting].default),
    )
)
# Latents that are coded given the frame before, and of which none keeps its level: a frame's boxes
# depend on its own picture alone, unless it is decoded given another than its reference.
OVER_TIME = "latent-fine"

MOST_SECONDS = {"kill": 2.0, "hang": 5.0, "cut": 5.0}
# To change over to something better is no reason to wait.
MOST_SECONDS_OF_MENDING = 2.0


@pytest.fixture
def chaos(pytestconfig, capsys):
    """A cluster beside this process, its workstation behind a link if that can be cut."""
    with ExitStack() as stack:
        link, places, reason = None, {}, why_not()
        if reason:
            with capsys.disabled():
                sys.stdout.write(f"\nno link is cut: {reason}\n")
        else:
            link = stack.enter_context(CuttableLink())
            places = {"edge": link.near, "workstation": link.far}
        cluster = Cluster(
            stage_arguments=("--paced-milliseconds", "20"),
            orchestrator_arguments=("--located-at", "edge", *AS_SHIPPED),
            places=places,
        )
        stack.callback(cluster.close)
        yield Chaos(cluster, link, pytestconfig.getoption("--chaos-seed")), cluster


async def test_no_frame_is_lost_while_one_placement_is_complete(chaos, pytestconfig, capsys):
    faults, cluster = chaos
    expected = await boxes_of_pictures(cluster.address, OVER_TIME)
    expected_of_clip = await boxes_of_clip(cluster.address)
    coded = [Camera("second", codec=OVER_TIME), Camera("live", fps=15.0, codec=OVER_TIME)]
    films = [VideoCamera("film"), VideoCamera("other film"), VideoCamera("live film", fps=15.0)]
    cameras = [Camera("first"), *coded, *films]
    async with streaming(cluster.address, *cameras):
        await faults.run(pytestconfig.getoption("--chaos-seconds"))
    state = await status(cluster.address)

    gaps = [longest_gaps(camera.served_at, faults.events) for camera in cameras]
    with capsys.disabled():
        sys.stdout.write("\n".join(["", *report(faults.events, cameras, gaps, state), ""]))
    for camera in cameras:
        assert set(camera.outcomes) <= {"detections", "dropped"}, camera.outcomes
    for camera in coded:
        assert_own_boxes(camera, expected)
    for camera in films:
        assert_own_boxes(camera, expected_of_clip)
    late = [
        f"{camera.name} waited {seconds:.2f} s after {event.kind} {event.part}"
        for camera, of_camera in zip(cameras, gaps)
        for event, seconds in of_camera.items()
        if seconds > MOST_SECONDS.get(event.kind, MOST_SECONDS_OF_MENDING)
    ]
    assert not late


def report(events, cameras, gaps, state):
    """What happened, in lines."""
    begun = events[0].at
    by_kind = defaultdict(list)
    for event in events:
        longest = max(each.get(event, 0.0) for each in gaps)
        by_kind[event.kind].append(longest)
        yield f"{event.at - begun:6.1f} s  {event.kind:12} {event.part:24} {longest:5.2f} s"
    yield from table(by_kind)
    for camera in cameras:
        outcomes = ", ".join(f"{count} {name}" for name, count in camera.outcomes.items())
        yield f"{camera.name}: {camera.sent} frames, {outcomes}"
    yield f"{state.events.replayed_frames} frames replayed, {state.events.probe_frames} probes"
    yield f"switches {dict(state.events.switches)}, failovers {dict(state.events.failovers)}"
