"""Which bundle both halves of a route are to serve a stream with."""

from common.domain.models import DEFAULT_MODEL, BundleSource, ServedModel, StageModels
from common.domain.placement import Stage
from services.orchestrator.routing.routes import Route
from services.orchestrator.routing.served_models import ServedModels
from tests.unit.orchestrator.toys import stage_address

BACKBONE, TRANSFORMER = (stage_address("edge", stage) for stage in Stage)
ROUTE = Route(BACKBONE, TRANSFORMER)
OLD, NEW = "a" * 64, "b" * 64


def stage(serves, *more, note=""):
    model = ServedModel(DEFAULT_MODEL, serves, f"bundle-{serves[0]}", BundleSource.SETTINGS, note)
    return StageModels((model,), frozenset((serves, *more)))


def models_of(backbone, transformer):
    models = ServedModels()
    models.known.update({BACKBONE: backbone, TRANSFORMER: transformer})
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


def test_a_stage_that_tells_nothing_chooses_by_itself():
    models = ServedModels()
    assert models.bundle_for(ROUTE) is None
    models.known[BACKBONE] = stage(OLD)
    assert models.bundle_for(ROUTE) is None


def test_what_does_not_fit_together_is_told():
    models = models_of(stage(NEW, note="a restart would serve another."), stage(OLD))
    assert list(models.disagreements()) == [
        "the default model is served with different bundles: bundle-a (aaaaaaaaaaaa) on "
        "transformer on edge; bundle-b (bbbbbbbbbbbb) on backbone on edge"
    ]
    assert list(models.notes()) == ["backbone on edge: a restart would serve another."]
    assert list(models_of(stage(OLD), stage(OLD)).disagreements()) == []
