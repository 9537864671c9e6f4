"""What a disk, a crash or another code leaves of checkpoints."""

import pytest
import torch

from common.domain.errors import ConfigurationError, TandemError
from detr.importing import import_weights
from detr.training.checkpoints import CHECKPOINT_NAME, FORMER_NAME, load_checkpoint, save_checkpoint
from detr.training.state import new_state, restore_state, save_state


def steps_saved(folder, *steps):
    for step in steps:
        path = save_checkpoint(folder, {"step": step, "weights": torch.arange(1000)})
    return path


def test_the_one_before_is_kept(tmp_path):
    path = steps_saved(tmp_path, 1)
    assert not (tmp_path / FORMER_NAME).exists()
    steps_saved(tmp_path, 2, 3)
    assert load_checkpoint(path)["step"] == 3
    assert load_checkpoint(tmp_path / FORMER_NAME)["step"] == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == [FORMER_NAME, CHECKPOINT_NAME]


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_cut_checkpoint_is_told_with_the_one_before(tmp_path, share):
    path = steps_saved(tmp_path, 4, 5)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ConfigurationError) as caught:
        load_checkpoint(path)
    told = str(caught.value)
    assert f"{path} is not a readable checkpoint" in told
    assert f"{tmp_path / FORMER_NAME} of step 4, is whole" in told
    # As told: the one before in its place.
    (tmp_path / FORMER_NAME).replace(path)
    assert load_checkpoint(path)["step"] == 4


def test_a_damaged_former_one_is_not_offered(tmp_path):
    path = steps_saved(tmp_path, 4, 5)
    for each in (path, tmp_path / FORMER_NAME):
        each.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ConfigurationError) as caught:
        load_checkpoint(path)
    assert "is whole" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("optimiser"),
        lambda content: content.pop("recipe"),
        lambda content: content.update(recipe="{}"),
        lambda content: content.update(step="4"),
        lambda content: content["model"].pop("detr.input_proj.weight"),
        lambda content: content.update(optimiser={"state": {}}),
    ],
)
def test_a_checkpoint_that_lacks_something_is_one_sentence(tiny_recipe, tmp_path, change):
    path = save_state(new_state(tiny_recipe), tiny_recipe, tmp_path)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(ConfigurationError, match=str(path)) as caught:
        restore_state(path, tiny_recipe)
    assert "\n" not in str(caught.value)


def test_a_run_can_be_imported_as_it_is(tiny_recipe, tmp_path):
    """Its average, its heads and its dilation; not what only training has."""
    recipe = tiny_recipe.model_copy(update={"norm": "batch"})
    state = new_state(recipe)
    for value in state.average.state.values():
        if value.is_floating_point():
            value.add_(0.25)
    imported = import_weights(save_state(state, recipe, tmp_path))
    assert imported.model.architecture == recipe.architecture
    assert torch.equal(
        imported.model.query_embed.weight, state.average.state["detr.query_embed.weight"]
    )
    with pytest.raises(TandemError, match="say heads 2, but 8 is asked for"):
        import_weights(tmp_path / CHECKPOINT_NAME, heads=8)
