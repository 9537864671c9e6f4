"""D-FINE distilled over several levels, its transformer half frozen."""

import pytest
import torch
import yaml

from common.domain.errors import ConfigurationError
from detr.distillation.d_fine_recipe import DFineDistillationRecipe, d_fine_run_recipe
from detr.distillation.d_fine_task import DFineDistillationTask
from detr.distillation.d_fine_teacher import load_d_fine_teacher
from detr.distillation.recipe import load_distillation_recipe
from detr.errors import WeightsError
from detr.training.checkpoints import CHECKPOINT_NAME
from detr.training.families import trained_family
from detr.training.loop import training_step
from detr.training.optimisation import phase_at
from detr.training.state import new_state, restore_state, save_state
from tests.tiny_d_fine import CONFIGURATION, RECIPE, d_fine_batch, tiny_d_fine
from tests.unit.distillation.conftest import SETTINGS

NARROW = {
    **CONFIGURATION["backbone_config"],
    "stage_out_channels": [8, 8, 8, 12],
    "stage_in_channels": [4, 8, 8, 8],
    "hidden_sizes": [8, 8, 8, 12],
}
DISTIL = {
    "name": "tiny-dfine-narrow",
    "family": "d_fine",
    "student": "tiny-narrow",
    "seed": 7,
    "backbone_config": NARROW,
    "encoder_in_channels": [8, 12],
    "input": RECIPE["input"],
    "norm": "batch",
    "data": RECIPE["data"],
    "batch_size": 4,
    "evaluation": {"every_steps": 100, "images": 4},
    "checkpoint_every_steps": 5,
    "joint": {**SETTINGS, "weights": {"features": [[0.0, 1.0]], "truth": [[0.0, 0.05]]}},
}


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """The checkpoint of a D-FINE after two steps."""
    recipe = tiny_d_fine(score_shift=2.0)
    task = trained_family(recipe).task()
    state = new_state(recipe, task.build)
    for step in range(2):
        training_step(recipe, state, state.model, d_fine_batch(step), task)
    return save_state(state, recipe, tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def run(teacher_file):
    """Recipe, task and teacher of a run."""
    teacher = load_d_fine_teacher(teacher_file)
    chosen = DFineDistillationRecipe.model_validate(DISTIL)
    recipe = d_fine_run_recipe(chosen, teacher.identity, steps=40)
    task = DFineDistillationTask(recipe, teacher, lambda n: [d_fine_batch(i) for i in range(n)])
    return recipe, task, teacher


def steps(recipe, task, state, count):
    losses = []
    for _ in range(count):
        if state.step == 0:
            task.begin_phase(recipe, state.model, phase_at(recipe, 0), anew=True)
            state.average.restart(state.model)
        batch = d_fine_batch(state.step % 2)
        losses.append(training_step(recipe, state, state.model, batch, task))
    return torch.stack(losses)


def test_a_narrower_backbone_learns_the_teachers_levels(run):
    recipe, task, teacher = run
    state = new_state(recipe, task.build)
    losses = steps(recipe, task, state, 40)
    by_name = dict(zip(task.loss_names, losses.T, strict=True))
    assert task.loss_names[-2:] == ("features_16", "features_32")
    for name in ("loss", "features_16", "features_32"):
        assert by_name[name][-5:].mean() < 0.8 * by_name[name][:5].mean(), name
    # All but the backbone half is the teacher's, to the bit, norms' statistics included.
    theirs = teacher.model.state_dict()
    own = state.model.d_fine.state_dict()
    frozen = [n for n in theirs if not n.startswith(("model.backbone.", "model.encoder_input_"))]
    assert len(frozen) > 100
    for name in frozen:
        assert torch.equal(own[name], theirs[name]), name
    width = own["model.encoder_input_proj.0.0.weight"].shape
    assert width == (16, 8, 1, 1) != theirs["model.encoder_input_proj.0.0.weight"].shape


def test_a_distillation_is_resumed_to_the_bit(run, tmp_path):
    recipe, task, _ = run
    state = new_state(recipe, task.build)
    steps(recipe, task, state, 2)
    save_state(state, recipe, tmp_path)
    steps(recipe, task, state, 2)
    resumed = restore_state(tmp_path / CHECKPOINT_NAME, recipe, task.build)
    task.begin_phase(recipe, resumed.model, phase_at(recipe, 2), anew=False)
    steps(recipe, task, resumed, 2)
    for name, value in state.average.state.items():
        assert torch.equal(resumed.average.state[name], value), name


def test_a_teacher_is_the_model_as_it_was_trained(teacher_file, tmp_path):
    teacher = load_d_fine_teacher(teacher_file)
    teacher.model.save_pretrained(tmp_path / "folder")
    again = load_d_fine_teacher(tmp_path / "folder")
    assert again.identity.sha256 == teacher.identity.sha256
    recipe = tiny_d_fine(score_shift=2.0)
    state = restore_state(teacher_file, recipe, trained_family(recipe).task().build)
    name = "d_fine.model.decoder.class_embed.1.bias"
    assert torch.equal(teacher.model.model.decoder.class_embed[1].bias, state.average.state[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "rf_detr"}, "family: Input should be 'd_fine'"),
        ({"joint": {**DISTIL["joint"], "weights": {"memory": [[0, 1]]}}}, "no loss is called mem"),
        ({"stages": {}}, "stages: Extra inputs"),
    ],
)
def test_wrong_recipes_are_refused_by_key(tmp_path, change, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**DISTIL, **change}))
    with pytest.raises(ConfigurationError, match=message):
        load_distillation_recipe(str(path))


def test_a_student_with_other_levels_is_refused(run):
    _, _, teacher = run
    chosen = DFineDistillationRecipe.model_validate({**DISTIL, "encoder_in_channels": [8]})
    with pytest.raises(ConfigurationError, match="has 1 numbers, but teacher tiny-dfine has 2"):
        d_fine_run_recipe(chosen, teacher.identity)


@pytest.mark.parametrize("change", [{"depths": [1]}, {"out_indices": [3, 9]}, {"hidden_act": "no"}])
def test_a_backbone_that_makes_no_model_is_one_sentence(run, change):
    _, _, teacher = run
    chosen = DFineDistillationRecipe.model_validate(
        {**DISTIL, "backbone_config": {**NARROW, **change}}
    )
    with pytest.raises(WeightsError, match="recipe tiny-dfine-narrow: .*can make no model of this"):
        d_fine_run_recipe(chosen, teacher.identity)


def test_stages_that_do_not_fit_together_are_one_sentence(run):
    _, _, teacher = run
    wrong = {**NARROW, "stage_in_channels": [4, 8, 8, 99]}
    chosen = DFineDistillationRecipe.model_validate({**DISTIL, "backbone_config": wrong})
    recipe = d_fine_run_recipe(chosen, teacher.identity)
    task = DFineDistillationTask(recipe, teacher, lambda n: [d_fine_batch(i) for i in range(n)])
    with pytest.raises(WeightsError, match="tiny-narrow, configuration: .* cannot be computed"):
        new_state(recipe, task.build)
