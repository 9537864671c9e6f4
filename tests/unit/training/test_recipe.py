import pytest
import yaml
from pydantic import ValidationError

from common.domain.errors import ConfigurationError
from detr.training.optimisation import learning_rate_factor
from detr.training.recipe import (
    CosineSchedule,
    FlatSchedule,
    PiecewiseSchedule,
    Recipe,
    StepSchedule,
    load_recipe,
    shipped_recipe_names,
)
from scenes.categories import CATEGORIES
from tests.unit.training.conftest import TINY


@pytest.mark.parametrize("name", shipped_recipe_names("detr.training"))
def test_shipped_recipes_load(name):
    # A recipe for another machine makes the same model.
    assert load_recipe(name).name == name.removesuffix("-gpu")


def test_the_demo_model_knows_the_scenes_categories():
    assert load_recipe("demo-r50").architecture.classes == len(CATEGORIES)


def test_recipes_are_frozen(tiny_recipe):
    with pytest.raises(ValidationError):
        tiny_recipe.seed = 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rat": 1}, "learning_rat: Extra inputs"),
        ({"batch_size": 0}, "batch_size: Input should be greater than 0"),
        ({"start": {"kind": "scratch", "query_grid": [4, 5]}}, "does not fit 6 queries"),
        ({"optimiser": {"lr": 1}}, "optimiser.lr: Extra inputs"),
    ],
)
def test_wrong_recipes_are_refused_by_key(tmp_path, change, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**TINY, **change}))
    with pytest.raises(ConfigurationError, match=message):
        load_recipe(str(path))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigurationError, match="no recipe demo-r51; shipped recipes:.*demo-r50"):
        load_recipe("demo-r51")


def test_not_yaml(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: [")
    with pytest.raises(ConfigurationError, match="is not YAML: line 1, column 5"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (CosineSchedule(warmup_steps=10), {0: 0.1, 9: 1.0, 10: 1.0, 55: 0.505, 100: 0.01}),
        (StepSchedule(warmup_steps=0, drop_at=50), {0: 1.0, 49: 1.0, 50: 0.1, 100: 0.1}),
        (
            PiecewiseSchedule(warmup_steps=4, points=((10, 1.0), (60, 0.5), (100, 0.0))),
            {0: 0.25, 5: 1.0, 35: 0.75, 80: 0.25, 120: 0.0},
        ),
        (
            FlatSchedule(warmup_steps=2, decay_steps=40, final_share=0.0),
            {0: 0.5, 2: 1.0, 60: 1.0, 80: 0.5, 100: 0.0},
        ),
    ],
)
def test_schedules(schedule, expected):
    for step, factor in expected.items():
        assert learning_rate_factor(schedule, step, 100) == pytest.approx(factor)


def test_json_round_trip(tiny_recipe):
    assert Recipe.model_validate_json(tiny_recipe.model_dump_json()) == tiny_recipe
