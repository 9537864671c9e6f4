import math

import pytest
import torch

from detr.distillation.student import kept_layers, trace
from detr.distillation.tasks import loss_weights
from detr.model import DETR
from detr.training.loop import training_step
from detr.training.optimisation import phase_at
from detr.training.state import plain_model, restore_state, save_state
from tests.unit.training.conftest import random_batch


def run(recipe, task, state, until, batch=None):
    """Train as the loop does, always on one batch if given."""
    rows, fresh = [], True
    while state.step < until:
        phase = phase_at(recipe, state.step)
        anew = phase.first_step == state.step
        if fresh or anew:
            task.begin_phase(recipe, state.model, phase, anew)
            if anew:
                state.average.restart(state.model)
        fresh = False
        step_batch = batch or random_batch(state.step)
        values = training_step(recipe, state, state.model, step_batch, task).tolist()
        rows.append(dict(zip(task.loss_names, values)))
    return rows


def snapshot(state):
    return {name: value.clone() for name, value in state.model.state_dict().items()}


def changed(before, after):
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


PHASES = {
    0: ("detr.backbone.0.body.conv1", "detr.backbone.0.body.bn1", "detr.backbone.0.body.layer1"),
    1: ("detr.backbone.0.body.layer2",),
    2: ("detr.backbone.0.body.layer3",),
    3: ("detr.backbone.0.body.layer4",),
    4: ("detr.input_proj",),
}


def test_each_phase_trains_its_stage_only(prepared):
    recipe, task, state = prepared("stages")
    before = snapshot(state)
    for phase, prefixes in PHASES.items():
        run(recipe, task, state, 2 * phase + 2)
        after = snapshot(state)
        adapters = (f"adapters.stage{phase + 1}",)
        moved = changed(before, after)
        if phase == 0:
            moved = {name for name in moved if not name.startswith("statistics")}
        assert moved
        assert all(name.startswith((*prefixes, *adapters)) for name in moved), moved
        assert all(any(name.startswith(prefix) for name in moved) for prefix in prefixes)
        before = after


def test_losses_fall_at_every_stage(prepared, distil_recipe):
    recipe, task, state = prepared("stages", steps=100)
    rows = run(recipe, task, state, 100, random_batch(1))
    for index, name in enumerate(("stage1", "stage2", "stage3", "stage4")):
        values = [row[name] for row in rows[20 * index : 20 * index + 20]]
        assert values[-1] < 0.9 * values[0], name
        assert all(math.isnan(row[name]) for row in rows[20 * index + 20 :])
    projected = [row["projected"] for row in rows[80:]]
    assert projected[-1] < projected[0]


def test_the_last_adapter_folds_exactly(prepared, teacher):
    recipe, task, state = prepared("stages")
    run(recipe, task, state, 8)
    task.begin_phase(recipe, state.model, phase_at(recipe, 8), anew=True)
    student = state.model.eval()
    batch = random_batch(3)
    with torch.inference_mode():
        ours = student(batch.images, batch.padding, adapt=["stage4"])
        statistics = student.statistics["stage4"]
        imitated = ours.adapted["stage4"] * statistics.std[:, None, None]
        imitated += statistics.mean[:, None, None]
        expected = teacher.model.detr.input_proj(imitated)
    assert torch.allclose(ours.projected, expected, atol=1e-4)


def test_statistics_are_those_of_the_teachers_features(prepared, teacher):
    recipe, task, state = prepared("joint")
    run(recipe, task, state, 1)
    batches = [random_batch(100 + i) for i in range(8)]
    with torch.inference_mode():
        features = [trace(teacher.model, b.images, b.padding).stages[0] for b in batches]
    cells = torch.cat(
        [
            f[i, :, :, : (10 if i == 3 else 16)].flatten(1)
            for f in features
            for i in range(f.shape[0])
        ],
        dim=1,
    )
    statistics = state.model.statistics["stage1"]
    assert torch.allclose(statistics.mean, cells.mean(dim=1), atol=1e-5)
    std = cells.std(dim=1, correction=0)
    assert torch.allclose(statistics.std, std.clamp(min=0.03 * std.mean()), atol=1e-5)


def test_the_joint_method_trains_the_backbone_only(prepared, teacher):
    recipe, task, state = prepared("joint")
    before = snapshot(state)
    run(recipe, task, state, 3)
    moved = changed(before, snapshot(state))
    allowed = ("detr.backbone", "detr.input_proj", "adapters", "statistics")
    assert all(name.startswith(allowed) for name in moved)
    assert any(name.startswith("detr.backbone.0.body.layer4") for name in moved)
    for name, value in teacher.model.state_dict().items():
        if not name.startswith(("detr.backbone", "detr.input_proj")):
            assert torch.equal(state.model.state_dict()[name], value), name


def test_joint_losses_fall_and_add_up(prepared):
    recipe, task, state = prepared("joint", steps=20)
    rows = run(recipe, task, state, 20, random_batch(2, counts=(2, 1, 2, 1)))
    for name in ("stage3", "stage4", "projected", "memory", "outputs"):
        assert rows[-1][name] < rows[0][name], name
    first = rows[0]
    expected = sum(
        first[name] * loss_weights(recipe, 0)[name]
        for name in ("stage3", "stage4", "projected", "memory", "outputs")
    )
    assert first["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_follow_the_share_of_the_steps(prepared):
    recipe, _, _ = prepared("joint", steps=100)
    assert loss_weights(recipe, 50) == pytest.approx(
        {"stage3": 0.75, "stage4": 1, "projected": 2, "memory": 2, "outputs": 1, "truth": 0.5}
    )


@pytest.mark.parametrize("method", ["stages", "joint"])
def test_a_resumed_run_repeats_an_uninterrupted_one(prepared, method, tmp_path):
    recipe, task, whole = prepared(method)
    expected = run(recipe, task, whole, 10)
    _, task, first = prepared(method)
    run(recipe, task, first, 5)
    second = restore_state(save_state(first, recipe, tmp_path), recipe, task.build)
    assert [list(r.values()) for r in run(recipe, task, second, 10)] == [
        pytest.approx(list(r.values()), rel=0, nan_ok=True) for r in expected[5:]
    ]
    for name, value in whole.average.state.items():
        assert torch.equal(value, second.average.state[name]), name


def test_a_shorter_encoder_starts_with_evenly_chosen_layers(prepared, teacher):
    assert kept_layers(6, 3) == (1, 3, 5)
    assert kept_layers(3, 2) == (0, 2)
    assert kept_layers(3, 0) == ()
    recipe, task, state = prepared("encoder", encoder_layers=2)
    theirs, ours = teacher.model.state_dict(), state.model.state_dict()
    for new, old in ((0, 0), (1, 2)):
        for part in ("linear1.weight", "self_attn.in_proj_weight", "norm2.bias"):
            prefix = "detr.transformer.encoder.layers"
            assert torch.equal(ours[f"{prefix}.{new}.{part}"], theirs[f"{prefix}.{old}.{part}"])
    before = snapshot(state)
    rows = run(recipe, task, state, 10, random_batch(2))
    moved = changed(before, snapshot(state))
    assert all(name.startswith(("detr.transformer.encoder", "statistics")) for name in moved)
    assert rows[-1]["memory"] < rows[0]["memory"]
    model = plain_model(recipe, state.average.state)
    assert isinstance(model, DETR)
    assert len(model.transformer.encoder.layers) == 2
    assert recipe.name == "tiny-r50-e2"


def test_a_copy_of_the_teacher_has_nothing_to_learn(prepared, teacher):
    recipe, task, state = prepared("encoder", encoder_layers=2)
    batch = random_batch(5)
    with torch.inference_mode():
        ours = trace(state.model.eval(), batch.images, batch.padding, interpret=False)
        theirs = trace(teacher.model, batch.images, batch.padding, interpret=False)
    assert torch.equal(ours.projected, theirs.projected)
