"""How a model's class logits become scores."""

from __future__ import annotations

from typing import Union

from pydantic import Field
from typing_extensions import Annotated, Literal

from common.bundle.frozen import Frozen


class SoftmaxScoring(Frozen):
    """Each query reports its most probable class; the last row of the head is 'no object'."""

    kind: Literal["softmax"] = "softmax"


class SigmoidScoring(Frozen):
    """Each class of each query has a score of its own, and the best of all are reported.

    There is no row for 'no object'. A query may be reported once for each of several classes.
    """

    kind: Literal["sigmoid"] = "sigmoid"
    top_k: int = Field(gt=0, le=10_000, description="how many of queries x classes are reported")


Scoring = Annotated[Union[SoftmaxScoring, SigmoidScoring], Field(discriminator="kind")]
