"""Which bundle both halves of a route are to serve a stream with."""

from common.domain.models import DEFAULT_MODEL, BundleSource, ServedModel, StageModels
from common.domain.placement import Stage
from services.orchestrator.routing.routes import Route
from services.orchestrator.routing.served_models import CHANGING_SECONDS, ServedModels
from tests.unit.orchestrator.toys import stage_address

BACKBONE, TRANSFORMER = (stage_address("edge", stage) for stage in Stage)
ROUTE = Route(BACKBONE, TRANSFORMER)
OLD, NEW, NEWEST = "a" * 64, "b" * 64, "c" * 64


def stage(serves, *more, note=""):
    model = ServedModel(DEFAULT_MODEL, serves, f"bundle-{serves[0]}", BundleSource.SETTINGS, note)
    return StageModels((model,), frozenset((serves, *more)))


def models_of(backbone, transformer):
    models = ServedModels()
    models.told(BACKBONE, backbone, 0.0)
    models.told(TRANSFORMER, transformer, 0.0)
    return models


def test_halves_that_are_told_one_after_the_other_match_at_any_time():
    for backbone, transformer, bundle in (
        (stage(OLD), stage(OLD), OLD),
        (stage(NEW, OLD), stage(OLD), OLD),
        (stage(OLD), stage(NEW, OLD), OLD),
        (stage(NEW, OLD), stage(NEW, OLD), NEW),
        (stage(NEW, OLD), stage(OLD, NEW), NEW),
        (stage(NEW), stage(NEW), NEW),
        # The stages are asked, and say themselves what is wrong.
        (stage(NEW), stage(OLD), None),
    ):
        assert models_of(backbone, transformer).bundle_for(ROUTE) == bundle


def test_halves_that_have_changed_more_than_once_go_on_with_the_latest_that_both_have():
    models = models_of(stage(OLD), stage(OLD))
    models.told(TRANSFORMER, stage(NEW, OLD), 1.0)
    models.told(BACKBONE, stage(NEWEST, OLD), 2.0)
    assert models.bundle_for(ROUTE) == OLD
    # What other models are served with is none of this one's.
    models.told(BACKBONE, stage(NEWEST, "d" * 64), 3.0)
    models.told(TRANSFORMER, stage(NEW, "d" * 64), 3.0)
    assert models.bundle_for(ROUTE) is None


def test_a_route_is_changing_for_a_while_after_one_half_has_changed():
    models = models_of(stage(OLD), stage(OLD))
    models.told(BACKBONE, stage(OLD, note="more is told of the same"), 1.0)
    assert not models.is_changing(ROUTE, 1.0)
    models.told(BACKBONE, stage(NEW), 2.0)
    assert models.is_changing(ROUTE, 2.0 + CHANGING_SECONDS / 2)
    assert not models.is_changing(ROUTE, 2.0 + CHANGING_SECONDS)
    models.changed(TRANSFORMER, 100.0)
    assert models.is_changing(ROUTE, 101.0)
    models.left(TRANSFORMER)
    assert not models.is_changing(ROUTE, 101.0)


def test_a_stage_that_tells_nothing_chooses_by_itself():
    models = ServedModels()
    assert models.bundle_for(ROUTE) is None
    models.told(BACKBONE, stage(OLD), 0.0)
    assert models.bundle_for(ROUTE) is None


def test_what_does_not_fit_together_is_told():
    models = models_of(stage(NEW, note="a restart would serve another."), stage(OLD))
    assert list(models.disagreements()) == [
        "the default model is served with different bundles: bundle-a (aaaaaaaaaaaa) on "
        "transformer on edge; bundle-b (bbbbbbbbbbbb) on backbone on edge"
    ]
    assert list(models.notes()) == ["backbone on edge: a restart would serve another."]
    assert list(models_of(stage(OLD), stage(OLD)).disagreements()) == []
