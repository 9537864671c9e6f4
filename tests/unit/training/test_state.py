import pytest
import torch

from common.domain.errors import ConfigurationError
from detr.model import DETR, FrozenBatchNorm2d
from detr.training.checkpoints import CHECKPOINT_NAME, load_checkpoint
from detr.training.loop import training_step
from detr.training.optimisation import WeightAverage
from detr.training.release import rounded
from detr.training.state import new_state, plain_model, restore_state, save_state
from tests.unit.training.conftest import random_batch


def run(recipe, state, until):
    return [
        training_step(recipe, state, state.model, random_batch(state.step))
        for _ in range(state.step, until)
    ]


def test_a_resumed_run_repeats_an_uninterrupted_one(tiny_recipe, tmp_path):
    whole = new_state(tiny_recipe)
    losses = run(tiny_recipe, whole, 8)
    first = new_state(tiny_recipe)
    run(tiny_recipe, first, 4)
    path = save_state(first, tiny_recipe, tmp_path)
    second = restore_state(path, tiny_recipe)
    assert second.step == 4
    for expected, actual in zip(losses[4:], run(tiny_recipe, second, 8), strict=True):
        assert torch.equal(expected, actual)
    for name, value in whole.average.state.items():
        assert torch.equal(value, second.average.state[name])


def test_losses_fall_on_a_batch_seen_again_and_again(tiny_recipe):
    recipe = tiny_recipe.model_copy(update={"dropout": 0.0, "steps": 100, "norm": "batch"})
    state = new_state(recipe)
    batch = random_batch(0, counts=(2, 1, 2, 1))
    losses = [training_step(recipe, state, state.model, batch)[0].item() for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


def test_another_recipe_is_refused(tiny_recipe, tmp_path):
    path = save_state(new_state(tiny_recipe), tiny_recipe, tmp_path)
    other = tiny_recipe.model_copy(update={"batch_size": 8})
    with pytest.raises(ConfigurationError, match="written by a different recipe tiny"):
        restore_state(path, other)


def flat(recipe, steps):
    values = recipe.model_dump()
    values["schedule"] = {"shape": "flat", "warmup_steps": 2, "decay_steps": 4}
    return type(recipe).model_validate({**values, "steps": steps})


def test_a_flat_run_may_get_longer_before_it_decays(tiny_recipe, tmp_path):
    recipe = flat(tiny_recipe, 10)
    state = new_state(recipe)
    run(recipe, state, 5)
    path = save_state(state, recipe, tmp_path)
    assert restore_state(path, flat(tiny_recipe, 20)).step == 5


def test_a_flat_run_may_not_get_longer_afterwards(tiny_recipe, tmp_path):
    recipe = flat(tiny_recipe, 8)
    state = new_state(recipe)
    run(recipe, state, 6)
    path = save_state(state, recipe, tmp_path)
    with pytest.raises(ConfigurationError, match="different recipe"):
        restore_state(path, flat(tiny_recipe, 20))


def test_a_crash_while_writing_leaves_the_former_checkpoint(tiny_recipe, tmp_path, monkeypatch):
    state = new_state(tiny_recipe)
    path = save_state(state, tiny_recipe, tmp_path)
    before = path.read_bytes()

    def crash(content, file):
        file.write(b"half a checkpoint")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="disk full"):
        save_state(state, tiny_recipe, tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_damaged_checkpoints_are_refused(tmp_path, content):
    path = tmp_path / CHECKPOINT_NAME
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a readable checkpoint"):
        load_checkpoint(path)


def test_the_plain_model_has_only_the_first_group(tiny_recipe):
    recipe = tiny_recipe.model_copy(update={"norm": "batch"})
    state = new_state(recipe)
    run(recipe, state, 3)
    model = plain_model(recipe, state.average.state)
    assert isinstance(model, DETR)
    assert model.query_embed.weight.shape == (6, 16)
    assert any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    # With the average's weights, the training model in evaluation mode says the same.
    state.model.load_state_dict(state.average.state)
    state.model.eval()
    batch = random_batch(9)
    with torch.inference_mode():
        expected = state.model(batch.images, batch.padding).detr
        actual = model(batch.images, batch.padding)
    assert torch.allclose(actual.logits, expected.logits[:, :6], atol=1e-5)
    assert torch.allclose(actual.boxes, expected.boxes[:, :6], atol=1e-6)


def test_what_ships_may_say_no_object_more_often(tiny_recipe):
    state = new_state(tiny_recipe)
    shifted = tiny_recipe.model_copy(update={"no_object_shift": 1.5})
    before = plain_model(tiny_recipe, state.average.state).class_embed.bias
    after = plain_model(shifted, state.average.state).class_embed.bias
    assert torch.equal(after[:-1], before[:-1])
    assert (after - before)[-1].item() == pytest.approx(1.5)
    # What is trained stays as it is.
    assert torch.equal(state.average.state["detr.class_embed.bias"], before)


def test_the_average_follows_slowly(tiny_recipe):
    state = new_state(tiny_recipe)
    average = WeightAverage(state.model, 0.9)
    average.updates = 10_000
    before = average.state["detr.class_embed.bias"].clone()
    with torch.no_grad():
        state.model.detr.class_embed.bias += 1
    average.update(state.model)
    moved = average.state["detr.class_embed.bias"] - before
    assert torch.allclose(moved, torch.full_like(moved, 0.1), atol=1e-6)


def test_starting_values_come_from_the_seed(tiny_recipe):
    first, again = new_state(tiny_recipe).model, new_state(tiny_recipe).model
    other = new_state(tiny_recipe.model_copy(update={"seed": 6})).model
    name = "detr.query_embed.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_groups_do_not_see_each_other(tiny_recipe):
    model = new_state(tiny_recipe).model.eval()
    batch = random_batch(0)
    with torch.inference_mode():
        before = model(batch.images, batch.padding).detr.logits[:, :6]
        model.extra_queries.add_(1.0)
        after = model(batch.images, batch.padding).detr.logits
    assert torch.allclose(before, after[:, :6], atol=1e-6)


def test_norms_biases_and_queries_do_not_decay(tiny_recipe):
    recipe = tiny_recipe.model_copy(update={"norm": "batch"})
    state = new_state(recipe)
    names = {parameter: name for name, parameter in state.model.named_parameters()}
    for group in state.optimiser.param_groups:
        for parameter in group["params"]:
            exempt = parameter.dim() == 1 or "quer" in names[parameter]
            assert (group["weight_decay"] == 0.0) == exempt


def test_rounding_keeps_vectors():
    state = {"a": torch.full((2, 2), 1 / 3), "b": torch.full((2,), 1e-9)}
    small = rounded(state)
    assert small["a"].dtype == torch.float16
    assert torch.equal(small["b"], state["b"])
