import itertools

import torch

from detr.distillation.teacher import load_teacher
from detr.training.checkpoints import read_record
from detr.training.metrics import MetricsFile, MetricsRow
from detr.training.release import rebuild, release
from detr.training.state import save_state
from scenes.splits import SceneSource
from tests.unit.scenes.conftest import drawn_artwork, drawn_photographs


def test_a_distilled_run_is_released_with_the_name_of_its_teacher(prepared, tmp_path):
    recipe, task, state = prepared("joint")
    recipe = recipe.model_copy(update={"no_object_shift": 1.5})
    checkpoint = save_state(state, recipe, tmp_path / "run")
    file = MetricsFile(tmp_path / "run", 0, task.loss_names)
    file.append(MetricsRow(1, 4, 1.0, 1e-3, {"loss": 9.0, "stage3": 0.5}, 0.1, 0.2))
    scenes = SceneSource("train", 1, drawn_artwork(), drawn_photographs())
    pictures = (scenes.scene(index, 48, 64).pixels for index in itertools.count())
    released = release(checkpoint, tmp_path / "bundle", tmp_path / "record", "0123abc", pictures)
    assert released.bundle.manifest.name == "tiny-student"
    assert released.bundle.manifest.architecture.backbone == "resnet18"
    assert released.bundle.manifest.origin.startswith(
        "distilled from tiny-r50 by the method joint on scenes composed of"
    )
    record = read_record(tmp_path / "record")
    assert record["recipe"]["distillation"]["teacher"]["name"] == "tiny-r50"
    bias = state.average.state["detr.class_embed.bias"]
    assert torch.allclose(released.model.class_embed.bias[-1], bias[-1] + 1.5)
    # As a teacher it says what it said in training.
    taught = load_teacher(tmp_path / "record").model.detr.class_embed.bias
    assert torch.allclose(taught, bias)
    again = rebuild(tmp_path / "record", tmp_path / "again")
    assert again is not None
    assert again.digest == released.bundle.digest
