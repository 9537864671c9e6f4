import torch

from detr.training.batches import Sample, collate
from detr.training.losses import LossWeights
from detr.training.model import DenseHead, assign_tokens, dense_loss
from tests.unit.training.conftest import random_batch


def one_image(*boxes, valid=(48, 64)):
    count = len(boxes)
    return collate(
        [Sample(torch.zeros(3, 48, 64), valid, torch.arange(count), torch.tensor(boxes))]
    )


def test_tokens_in_the_middle_of_a_box_stand_for_it():
    # 3 x 4 tokens of 16 pixels, centres at 8, 24, 40(, 56); the box spans x 16..64, y 0..48, so
    # its middle 60 % spans x 25.6..54.4, y 9.6..38.4.
    batch = one_image([0.625, 0.5, 0.75, 1.0])
    _, positive = assign_tokens(batch, 3, 4, 16)
    assert positive[0].nonzero().tolist() == [[1, 2]]


def test_the_smallest_box_wins():
    batch = one_image([0.5, 0.5, 1.0, 1.0], [0.375, 0.5, 0.25, 0.4])
    target, positive = assign_tokens(batch, 3, 4, 16)
    assert positive[0, 1].tolist() == [False, True, True, False]
    assert target[0, 1, 1:3].tolist() == [1, 0]


def test_positions_are_those_of_the_valid_part():
    # Half as wide: the right half is padding, and the box fills the left half.
    batch = one_image([0.5, 0.5, 1.0, 1.0], valid=(48, 32))
    _, positive = assign_tokens(batch, 3, 4, 16)
    assert positive[0, 1].tolist() == [True, True, False, False]


def test_unused_rows_attract_nothing():
    batch = collate(
        [
            Sample(
                torch.zeros(3, 48, 64),
                (48, 64),
                torch.tensor([1, 2]),
                torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.2, 0.2, 0.3, 0.3]]),
            ),
            Sample(
                torch.zeros(3, 48, 64),
                (48, 64),
                torch.zeros(0, dtype=torch.int64),
                torch.zeros(0, 4),
            ),
        ]
    )
    assert not assign_tokens(batch, 3, 4, 16)[1][1].any()


def test_padded_tokens_do_not_count():
    torch.manual_seed(0)
    batch = random_batch(0, counts=(2, 2, 2, 2))
    logits, boxes = DenseHead(16, 10)(torch.randn(4, 16, 3, 4))
    padding = torch.zeros(4, 3, 4, dtype=torch.bool)
    padding[3, :, 3] = True
    before = dense_loss(logits, boxes, padding, batch, 16).total(LossWeights())
    changed = logits.clone()
    changed[3, :, 3] += 7
    after = dense_loss(changed, boxes, padding, batch, 16).total(LossWeights())
    assert torch.equal(before, after)
