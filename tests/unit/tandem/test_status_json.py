"""`tandem status --json`: its keys are a contract, whatever the types in between call them."""

from common.domain.placement import NodePair, Placement
from common.domain.status import (
    EventCounts,
    ModelChoice,
    PlacementStatus,
    SessionStatus,
    SystemStatus,
)
from tandem.cli.operations import status_to_json

FULL = Placement.FULL.node_pair


def test_the_keys_are_those_of_the_contract():
    status = SystemStatus(
        operator_pair=NodePair("attic", "cellar"),
        active_pair=FULL,
        stages=(),
        placements=(PlacementStatus(FULL, True, "", 3, 1.5, None),),
        links=(),
        sessions=(SessionStatus("s", None, 0, 1),),
        objective="throughput",
        explanation=("full serves.",),
        events=EventCounts({"better": 1}, {"died": 2}, 3, 4),
        uptime_seconds=5.0,
        draining=False,
        models=(
            ModelChoice("fast", None, (PlacementStatus(FULL, False, "no", 0, 0.0, None),), ()),
        ),
    )
    told = status_to_json(status)
    assert (told["placement_setting"], told["placement"]) == (
        "backbone=attic,transformer=cellar",
        "full",
    )
    assert told["events"] == {
        "switches": {"better": 1},
        "failovers": {"died": 2},
        "replayed_frames": 3,
        "probe_frames": 4,
    }
    (placement,) = told["placements"]
    assert placement == {
        "placement": "full",
        "available": True,
        "reason": "",
        "frames": 3,
        "frames_per_second": 1.5,
        "prediction": None,
    }
    assert told["sessions"][0]["placement"] is None
    assert not {"operator_pair", "active_pair", "node_pair"} & {*told, *told["sessions"][0]}
    (model,) = told["models"]
    assert (model["name"], model["placement"]) == ("fast", None)
    assert model["placements"][0]["placement"] == "full"
