"""Which bundles stay in a stage's memory, and which one a stream is served with."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from common.bundle import load_bundle
from common.domain.errors import PreconditionError
from common.domain.models import DEFAULT_MODEL, BundleSource
from common.server.budget import FrameCost
from services.pipeline.execution_turn import ExecutionTurn, Place
from services.pipeline.loaded_bundle import LoadedBundle
from services.pipeline.stage_bundles import StageBundles
from tests.harness import TOY_BUNDLE

SETTINGS, DEPLOYED = BundleSource.SETTINGS, BundleSource.DEPLOYED


class Memory:
    """A stage's bundles, and those that it has released."""

    def __init__(self):
        self.released = []
        self.bundles = StageBundles("backbone on edge", self.released.append)
        self.old, self.new, self.newest = (loaded(letter) for letter in "abc")
        self.bundles.serve(DEFAULT_MODEL, self.old, SETTINGS)

    def serve(self, bundle):
        self.bundles.serve(DEFAULT_MODEL, bundle, DEPLOYED)


def loaded(letter):
    bundle = replace(load_bundle(TOY_BUNDLE), digest=letter * 64)
    pipeline = SimpleNamespace(engine=SimpleNamespace(unable="", place=Place(ExecutionTurn())))
    return LoadedBundle(bundle, None, pipeline, FrameCost(1))


@pytest.fixture
def memory():
    return Memory()


def test_a_stream_keeps_its_bundle_to_its_end_and_only_then_is_it_released(memory):
    bundles = memory.bundles
    with bundles.stream_of("") as used:
        assert used is memory.old
        bundles.opened(used)
        memory.serve(memory.new)
        with bundles.stream_of("") as next_one:
            assert next_one is memory.new
            bundles.opened(next_one)
            assert memory.released == []
            # Whoever is behind may still open one with the bundle that it has.
            with bundles.stream_of(memory.old.bundle.digest) as late:
                assert late is memory.old
    assert memory.released == [memory.old]
    assert bundles.models.loaded_digests == {memory.new.bundle.digest}


def test_the_former_bundle_stays_until_the_other_half_has_the_new_one(memory):
    bundles = memory.bundles
    memory.serve(memory.new)
    assert memory.released == []
    # The other half was not told yet: its streams come with the former bundle, and end.
    with bundles.stream_of(memory.old.bundle.digest) as used:
        bundles.opened(used)
    assert memory.released == []
    with bundles.stream_of(memory.new.bundle.digest) as used:
        bundles.opened(used)
        assert memory.released == [memory.old]


def test_a_complete_deployment_releases_at_once_what_has_no_stream(memory):
    memory.serve(memory.new)
    memory.bundles.settle(DEFAULT_MODEL)
    assert memory.released == [memory.old]


def test_of_several_changes_before_any_stream_only_what_may_be_needed_stays(memory):
    memory.bundles.opened(memory.old)
    memory.serve(memory.new)
    memory.serve(memory.newest)
    # No stream was ever opened with it, so no other half waits for it.
    assert memory.released == [memory.new]
    memory.serve(memory.old)
    assert memory.released == [memory.new, memory.newest]
    assert memory.bundles.serving(DEFAULT_MODEL).loaded is memory.old


def test_what_is_prepared_is_told_to_nobody_and_released_if_it_is_not_served(memory):
    bundles = memory.bundles
    with bundles.held(memory.new):
        assert bundles.find(memory.new.bundle.digest) is memory.new
        assert memory.new.bundle.digest not in bundles.models.loaded_digests
    assert memory.released == [memory.new]
    with bundles.held(memory.newest):
        memory.serve(memory.newest)
    assert memory.newest not in memory.released


def test_a_bundle_that_serves_two_models_stays_while_one_of_them_has_it(memory):
    bundles = memory.bundles
    bundles.serve("fast", memory.old, SETTINGS)
    assert bundles.models.loaded_digests == {memory.old.bundle.digest}
    memory.serve(memory.new)
    bundles.settle(DEFAULT_MODEL)
    assert memory.released == []
    assert [(each.name, each.bundle_digest) for each in bundles.models.models] == [
        (DEFAULT_MODEL, memory.new.bundle.digest),
        ("fast", memory.old.bundle.digest),
    ]
    bundles.serve("fast", memory.newest, DEPLOYED)
    bundles.settle("fast")
    assert memory.released == [memory.old]


def test_what_is_wrong_with_one_model_is_told_of_it_alone(memory):
    bundles = memory.bundles
    bundles.serve("fast", memory.new, SETTINGS)
    memory.new.out_of_order = "its engine is being reloaded"
    memory.old.pipeline.engine.unable = "it lacks GridSample"
    assert {each.name: each.out_of_order for each in bundles.models.models} == {
        DEFAULT_MODEL: "it lacks GridSample",
        "fast": "its engine is being reloaded",
    }


def test_a_bundle_that_is_not_there_is_refused_with_those_that_are(memory):
    told = pytest.raises(PreconditionError, match=f"{'d' * 64}.*it serves {'a' * 64}")
    with told, memory.bundles.stream_of("d" * 64):
        pass
    with pytest.raises(PreconditionError, match="no model 'fast'; its models are: the default"):
        memory.bundles.serving("fast")


def test_a_bundle_has_one_turn_with_the_one_that_replaces_it(memory):
    memory.serve(memory.new)
    memory.serve(memory.newest)
    lines = {each.place.line for each in (memory.old, memory.new, memory.newest)}
    assert len(lines) == 1
    memory.serve(memory.old)
    assert {each.place.line for each in (memory.old, memory.new, memory.newest)} != lines
    assert memory.newest.place.line == memory.old.place.line


def test_a_bundle_that_still_serves_another_model_has_a_turn_of_its_own(memory):
    memory.bundles.serve("other", memory.old, SETTINGS)
    memory.serve(memory.new)
    assert memory.old.place.line != memory.new.place.line
    memory.bundles.serve("other", memory.new, DEPLOYED)
    assert memory.old.place.line == memory.new.place.line


def test_a_bundle_that_comes_back_for_another_model_leaves_its_former_line(memory):
    memory.bundles.serve("other", memory.newest, SETTINGS)
    memory.serve(memory.new)
    memory.bundles.serve("other", memory.old, DEPLOYED)
    assert memory.old.place.line != memory.new.place.line
    assert memory.old.place.line == memory.newest.place.line
