"""Each model's frames go where both halves of it are, by estimates and a choice of its own."""

from dataclasses import replace

import pytest

from common.domain.detections import StreamOptions
from common.domain.errors import InvalidInputError, PreconditionError, UnavailableError
from common.domain.models import DEFAULT_MODEL, BundleSource, ServedModel, StageModels
from common.domain.placement import Placement, Stage
from common.wire.models import stage_models_from_wire, stage_models_to_wire
from protos.tandem.v1 import detection_pb2
from services.orchestrator.routing.served_models import ServedModels
from services.orchestrator.session.opening import BackboneOpening
from services.orchestrator.session.route_stream import StreamTerms
from tests.unit.orchestrator.toys import router_of, servers_of, set_health

EDGE = servers_of("edge")
BOTH = servers_of("edge", "workstation")
FULL, REMOTE = Placement.FULL.node_pair, Placement.WORKSTATION.node_pair
PLAIN, FAST, FASTER = "a" * 64, "b" * 64, "c" * 64


def serving(**digests):
    """What a stage tells that serves these models by name beside the default one."""
    names = {DEFAULT_MODEL: PLAIN, **digests}
    models = tuple(
        ServedModel(name, digest, name or "plain", BundleSource.SETTINGS)
        for name, digest in names.items()
    )
    return StageModels(models, frozenset(names.values()))


def told(router, **digests):
    """Have the servers of nodes tell: `edge=serving(...)`."""
    for server in router.table.health:
        if server.node in digests:
            router.models_changed(server, digests[server.node])


async def test_a_models_frames_go_only_where_both_halves_serve_it():
    router = router_of(BOTH)
    told(router, edge=serving(fast=FAST), workstation=serving())
    fast = router.of("fast")
    assert fast is router.of("fast") and router.of(DEFAULT_MODEL) is router
    assert fast.choose(None, {}).node_pair == fast.active_pair() == FULL
    assert router.choose(REMOTE, {}).node_pair == REMOTE
    words = "cannot serve the model fast, which the backbone on workstation and the transformer"
    with pytest.raises(PreconditionError, match=words):
        fast.choose(REMOTE, {})
    assert fast.decision.unavailable[REMOTE].startswith("placement workstation cannot serve")
    # Once it is served there as well, whoever waits is woken.
    change = fast.next_change()
    told(router, workstation=serving(fast=FAST))
    assert change.done()
    assert fast.choose(REMOTE, {}).node_pair == REMOTE


async def test_halves_of_different_bundles_are_no_route_and_the_stages_are_never_left_to_choose():
    router = router_of(EDGE)
    backbone, transformer = EDGE
    router.models_changed(backbone, serving(fast=FAST))
    router.models_changed(transformer, serving(fast=FASTER))
    with pytest.raises(PreconditionError, match="halves of different bundles for the model fast"):
        router.of("fast").choose(None, {})
    # While one has just changed, the other may be about to: frames wait.
    router.models_changed(transformer, serving(fast="d" * 64))
    with pytest.raises(UnavailableError, match="halves of different bundles"):
        router.of("fast").choose(None, {})
    # Of a model that changes over, the half that was told first keeps the bundle before.
    both = serving(fast=FASTER)
    router.models_changed(transformer, replace(both, loaded_digests=both.loaded_digests | {FAST}))
    route = router.of("fast").choose(None, {})
    assert router.table.models.bundle_for(route, "fast") == FAST
    opening = BackboneOpening("s", StreamOptions(model="fast"), "edge")
    assert opening.request(route, StreamTerms(bundle=FAST)).open.bundle_digest == FAST
    with pytest.raises(PreconditionError, match="no bundle of the model fast"):
        opening.request(route, StreamTerms())


async def test_what_is_wrong_with_one_model_concerns_no_other():
    router = router_of(EDGE)
    backbone, _ = EDGE
    told(router, edge=serving(fast=FAST))
    models = serving(fast=FAST)
    broken = tuple(
        replace(each, out_of_order="its engine is being reloaded" if each.name else "")
        for each in models.models
    )
    router.models_changed(backbone, replace(models, models=broken))
    fast = router.of("fast")
    with pytest.raises(UnavailableError, match="its engine is being reloaded"):
        fast.choose(None, {})
    assert router.choose(None, {}).node_pair == FULL
    route = router.choose(None, {})
    assert router.is_available(route) and not fast.is_available(route)
    # A frame that it refuses meanwhile is not what brings it down.
    assert fast.ends_in_good_order(backbone) and not router.ends_in_good_order(backbone)
    warnings = list(router.table.models.notes())
    assert warnings == [
        "backbone on edge cannot serve the model fast: its engine is being reloaded"
    ]
    # A stage that was lost and is back may have recovered.
    set_health(router, backbone, False)
    set_health(router, backbone, True)
    assert fast.is_available(route)


async def test_a_server_that_has_not_told_serves_the_default_model_alone():
    router = router_of(BOTH)
    told(router, edge=serving(fast=FAST))
    with pytest.raises(UnavailableError, match="it has not told which models it serves"):
        router.of("fast").choose(REMOTE, {})
    assert router.choose(REMOTE, {}).node_pair == REMOTE


def test_a_name_is_refused_with_those_that_there_are():
    models, (backbone, transformer) = ServedModels(), EDGE
    models.require(DEFAULT_MODEL, EDGE)
    models.known.update({backbone: serving(fast=FAST, small=FAST), transformer: serving(fast=FAST)})
    models.require("fast", EDGE)
    with pytest.raises(PreconditionError, match="no model 'other'; its models are: the default"):
        models.require("other", EDGE)
    with pytest.raises(PreconditionError, match="'small', or only the backbone of it"):
        models.require("small", EDGE)


def test_a_name_may_be_that_of_a_model_whose_stages_have_not_told_yet():
    models, backbone = ServedModels(), EDGE[0]
    with pytest.raises(UnavailableError, match="yet to tell theirs: backbone on edge, transformer"):
        models.require("fast", EDGE)
    # As after a restart of the orchestrator while one half is away.
    models.known[backbone] = serving(fast=FAST)
    with pytest.raises(
        UnavailableError, match=r"known so far \(the default\).*: transformer on edge"
    ):
        models.require("fast", EDGE)
    # Another transformer does not help where there is no backbone.
    with pytest.raises(PreconditionError, match="no model 'other'"):
        models.require("other", EDGE)


async def test_models_are_measured_apart_and_links_together():
    router = router_of(BOTH)
    told(router, edge=serving(fast=FAST), workstation=serving(fast=FAST))
    fast = router.of("fast")
    for each, seconds in ((router, 0.5), (fast, 0.01)):
        route = each.choose(REMOTE, {})
        for _ in range(4):
            each.served(route, timing(seconds), backlogged=False)
    router.tick()
    key = ("workstation", Stage.BACKBONE)
    estimates, of_fast = router.measurements.estimates, fast.measurements.estimates
    assert estimates.stages[key].execute_seconds == pytest.approx(0.5)
    assert of_fast.stages[key].execute_seconds == pytest.approx(0.01)
    assert estimates.links and estimates.links.keys() == of_fast.links.keys()
    # Who answers frames of any model needs no heartbeat.
    backbone = route.backbone
    assert router.measurements.answered_at(backbone) == fast.measurements.answered_at(backbone)


def timing(seconds):
    told = detection_pb2.Timing()
    for stage in (told.backbone, told.transformer):
        stage.execute_seconds, stage.transfer_seconds, stage.request_bytes = seconds, 0.01, 20_000
    return told


async def test_a_pairs_rate_is_not_held_against_it_while_another_model_uses_it():
    router = router_of(EDGE)
    told(router, edge=serving(fast=FAST))
    machines = router.measurements._keeper.machines
    route = router.of("fast").choose(None, {})
    own = router.measurements._keeper
    assert not machines.is_shared(own, ("edge",), 10.0)
    # A mirrored request now and then takes nothing from anybody.
    router.of("fast").served(route, timing(0.01), backlogged=False)
    keys = [("edge", stage) for stage in Stage]
    assert not machines.is_shared(own, ("edge",), 0.0)
    for _ in range(4):
        machines.used("fast", keys, 10.0)
    assert machines.is_shared(own, ("edge",), 10.5)
    assert not machines.is_shared(own, ("edge",), 20.0)
    assert not machines.is_shared("fast", ("edge",), 10.5)


def test_a_stage_may_not_tell_of_any_number_of_models_or_of_names_that_are_none():
    for names in ([f"m{number}" for number in range(33)], ["../etc"]):
        wire = stage_models_to_wire(serving(**dict.fromkeys(names, FAST)))
        with pytest.raises(InvalidInputError):
            stage_models_from_wire(wire)
    models = serving(fast=FAST)
    assert stage_models_from_wire(stage_models_to_wire(models)) == models
