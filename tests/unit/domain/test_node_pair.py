"""Placements as pairs of nodes."""

from __future__ import annotations

import pytest

from common.domain.errors import InvalidInputError
from common.domain.placement import NodePair, Placement


@pytest.mark.parametrize("placement", Placement)
def test_a_placement_is_a_name_for_a_pair(placement: Placement) -> None:
    pair = placement.node_pair
    assert (pair.placement, pair.name) == (placement, placement.value)
    assert NodePair.parse(placement.value) == pair


def test_any_two_nodes_can_be_named() -> None:
    pair = NodePair("left", "right")
    assert NodePair.parse(pair.name) == pair
    assert NodePair.parse("transformer=right,backbone=left") == pair
    assert pair.placement is None
    assert NodePair.parse("backbone=edge,transformer=edge").placement is Placement.FULL


@pytest.mark.parametrize(
    "text",
    [
        "",
        "half",
        "backbone=left",
        "backbone=,transformer=right",
        "backbone=a,transformer=b,other=c",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="is no placement"):
        NodePair.parse(text)
