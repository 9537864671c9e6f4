import pytest
import torch
from torch import nn

from common.domain.errors import ConfigurationError
from detr.distillation.fitting import fit_backbone, select_channels, solve
from detr.distillation.student import trace
from detr.training.optimisation import phase_at
from tests.unit.training.conftest import random_batch


def test_a_linear_function_is_found():
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(500, 6, generator=generator) for _ in range(3)]
    weight, bias = torch.randn(2, 6, generator=generator), torch.tensor([1.0, -2.0])
    fit = solve((x, x @ weight.T + bias) for x in inputs)
    assert torch.allclose(fit.weight.float(), weight, atol=0.02)
    assert torch.allclose(fit.bias.float(), bias, atol=0.02)
    every = torch.cat(inputs).double()
    assert torch.allclose(fit.input_covariance, every.T.cov(correction=0), atol=1e-5)


def test_channels_that_tell_most_are_chosen():
    # Channel 2 repeats channel 0; 3 is the largest alone, 1 hardly varies.
    base = torch.randn(1000, 4, generator=torch.Generator().manual_seed(2))
    base[:, 1] *= 0.01
    base[:, 2] = base[:, 0]
    base[:, 3] *= 3
    chosen = select_channels(base.T.cov(), 2).tolist()
    assert chosen in ([0, 3], [2, 3])
    readout = torch.tensor([[0.0, 1000.0, 0.0, 0.1]])
    assert select_channels(base.T.cov(), 1, readout).tolist() == [1]


def test_a_fitted_student_is_nearer_to_its_teacher(prepared, teacher):
    recipe, task, state = prepared("joint")
    batch = random_batch(200)

    def distance():
        with torch.inference_mode():
            ours = trace(state.model.eval(), batch.images, batch.padding, interpret=False)
            theirs = trace(teacher.model, batch.images, batch.padding, interpret=False)
        standardise = state.model.statistics["projected"]
        assert ours.projected is not None
        difference = standardise(ours.projected) - standardise(theirs.projected)
        return difference.square().mean().item()

    task.begin_phase(recipe, state.model, phase_at(recipe, 0), anew=True)
    before = distance()
    fit_backbone(state.model, teacher, [random_batch(300 + i) for i in range(16)])
    assert distance() < 0.8 * min(1.0, before)


def test_norms_do_the_same_in_training_mode(prepared, teacher):
    _, _, state = prepared("joint")
    batches = [random_batch(300 + i) for i in range(4)]
    fit_backbone(state.model, teacher, batches)
    body = state.model.detr.backbone.body
    block = body.layer1[0]
    assert isinstance(block.bn1, nn.BatchNorm2d)
    with torch.inference_mode():
        images = torch.cat([batch.images for batch in batches])
        stem = nn.functional.relu(body.bn1.eval()(body.conv1(images)))
        stem = nn.functional.max_pool2d(stem, 3, stride=2, padding=1)
        expected = block.eval()(stem)
        actual = block.train()(stem)
    assert torch.allclose(actual, expected, atol=1e-3)


def test_only_basic_blocks_are_fitted(prepared, teacher):
    _, _, state = prepared("encoder", encoder_layers=1)
    with pytest.raises(ConfigurationError, match="only a ResNet-18 or 34 can be fitted"):
        fit_backbone(state.model, teacher, [random_batch(1)])
