"""Where a frame's time went, by component: edge, link, workstation (thesis, figure 3.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from common.domain.detections import FrameTiming, StageTiming
from common.domain.placement import EDGE, Placement, Stage

_OWN_STEPS = ("decode", "preprocess", "execute", "encode", "postprocess")


@dataclass(frozen=True)
class Components:
    """One frame's; the first five, in seconds, add up to its latency.

    Attributes:
        edge: work of the edge's stages: decoding, preprocessing, engine, codec, boxes.
        link: on the way between the nodes, both ways, the waits in its buffers included.
        workstation: work of the workstation's stages.
        queue: ready, but the engine was busy with other frames.
        other: the rest: hops within a node, changes of thread, waiting for room.
        edge_execute: in the edge's engines; a part of `edge`.
        workstation_execute: in the workstation's engines; a part of `workstation`.
        link_bytes: payload that crossed the link, without the boxes' kilobyte.
    """

    edge: float
    link: float
    workstation: float
    queue: float
    other: float
    edge_execute: float
    workstation_execute: float
    link_bytes: int


def components(placement: Placement, cameras: str, timing: FrameTiming) -> Components:
    """Split a frame's time.

    A stage's `transfer` is measured by who sent to it, so that no two clocks are compared: the
    backbone's by the orchestrator, on the cameras' node, the transformer's by the backbone.

    Args:
        placement: that served the frame.
        cameras: node that the orchestrator runs on.
        timing: of both stages.
    """
    work = {True: 0.0, False: 0.0}
    execute = {True: 0.0, False: 0.0}
    link, link_bytes, queue = 0.0, 0, 0.0
    for node, sender, stage in _hops(placement, cameras, timing):
        work[node == EDGE] += own_seconds(stage)
        execute[node == EDGE] += stage.execute_seconds
        queue += stage.queue_seconds
        if node != sender:
            link += stage.transfer_seconds
            link_bytes += stage.request_bytes
    known = work[True] + work[False] + queue + link
    return Components(
        edge=work[True],
        link=link,
        workstation=work[False],
        queue=queue,
        other=timing.total_seconds - known,
        edge_execute=execute[True],
        workstation_execute=execute[False],
        link_bytes=link_bytes,
    )


def own_seconds(stage: StageTiming) -> float:
    """What a stage itself did for a frame."""
    return sum(float(getattr(stage, f"{step}_seconds")) for step in _OWN_STEPS)


def _hops(
    placement: Placement, cameras: str, timing: FrameTiming
) -> Iterator[tuple[str, str, StageTiming]]:
    """Each stage with its node and the node that sent to it."""
    nodes = {
        Stage.BACKBONE: (placement.backbone_node, cameras),
        Stage.TRANSFORMER: (placement.transformer_node, placement.backbone_node),
    }
    stages = {Stage.BACKBONE: timing.backbone, Stage.TRANSFORMER: timing.transformer}
    for stage, (node, sender) in nodes.items():
        told = stages[stage]
        if told is not None:
            yield node, sender, told
