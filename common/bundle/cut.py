"""The cut between a model's halves: which tensors cross it."""

from __future__ import annotations

from typing import Sequence, Tuple

from pydantic import Field

from common.bundle.frozen import Frozen, inconsistent

ONLY_TENSOR = "features"
"""The name of the tensor that crosses the cut, where there is one."""
MAX_CUT_TENSORS = 8
"""The most tensors that may cross a cut."""


class CutTensor(Frozen):
    """One tensor that crosses the cut, of shape [N,channels,rows,columns].

    The backbone half gives it, and the transformer half takes it, by this name.
    """

    name: str
    channels: int = Field(gt=0, le=1 << 16)
    stride: int = Field(gt=0, le=1 << 12, description="input pixels a cell, in each direction")

    def grid(self, height: int, width: int) -> Tuple[int, int]:
        """Its rows and columns for an input of this height and width, pixels."""
        # ceil: each of a backbone's stride-2 layers rounds up.
        return -(-height // self.stride), -(-width // self.stride)

    def values(self, height: int, width: int) -> int:
        """How many values it has for one frame of an input of this height and width, pixels."""
        rows, columns = self.grid(height, width)
        return self.channels * rows * columns


def require_cut(tensors: Sequence[CutTensor]) -> None:
    """Check that these can cross one cut.

    Raises:
        PydanticCustomError: there are none or too many, they are not in the order of their strides,
            or one has another name than it has to have.
    """
    if not 1 <= len(tensors) <= MAX_CUT_TENSORS:
        raise inconsistent(
            f"{len(tensors)} tensors cross the cut; it has to be 1 to {MAX_CUT_TENSORS}"
        )
    for finer, coarser in zip(tensors, tensors[1:]):
        if finer.stride >= coarser.stride:
            raise inconsistent("the tensors of the cut are not by stride, the finest first")
    for tensor in tensors:
        name = ONLY_TENSOR if len(tensors) == 1 else f"{ONLY_TENSOR}_{tensor.stride}"
        if tensor.name != name:
            raise inconsistent(f"a tensor of the cut is called {tensor.name!r}, not {name!r}")
