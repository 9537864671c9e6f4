"""What releases of TensorRT cannot read, as far as NVIDIA's documentation tells.

Sources: docs/Changelog.md and docs/operators.md of github.com/onnx/onnx-tensorrt, TensorRT's own
parser, in their revisions of 8.2 to 10.15. What these do not tell of an operator or a release, the
parser itself says when it reads the graph (`messages.parse_failure`).
"""

from __future__ import annotations

from typing import Dict, Optional, Tuple

from common.engines.operators import GraphOperators, beyond_opset, lacking_operators

Release = Tuple[int, int]

OPERATORS_SINCE: Dict[str, Release] = {
    **dict.fromkeys(("Shrink", "Xor"), (8, 4)),
    **dict.fromkeys(
        (
            *("GridSample", "MeanVarianceNormalization", "Mod", "NonZero", "RandomNormal"),
            *("RoiAlign", "Trilu"),
        ),
        (8, 5),
    ),
    **dict.fromkeys(("GroupNormalization", "IsInf", "LayerNormalization"), (8, 6)),
    "Hardmax": (9, 2),
    "DeformConv": (10, 1),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow"), (10, 4)),
    "STFT": (10, 5),
    "Attention": (10, 14),
    **dict.fromkeys(("RMSNormalization", "RotaryEmbedding", "TensorScatter"), (10, 15)),
}
"""The first release that reads an operator. One that is not here may be read, or not."""

_MOST_OPSET: Tuple[Tuple[Release, Release, int], ...] = (
    ((8, 0), (8, 2), 13),
    ((8, 5), (8, 6), 17),
    ((9, 2), (9, 3), 19),
    ((10, 15), (10, 15), 24),
)
"""From one release to another, the newest opset that is documented; of those between, the documents
that we know of tell nothing, or different things."""


def require_readable(version: str, file: str, operators: GraphOperators) -> None:
    """Refuse a graph that this release is known not to read.

    The parser does not refuse an opset that is too new for it: it reads the operators as they were,
    and of some, such as a reduction whose axes became an input, it makes something else.

    Args:
        version: of TensorRT, as it tells it.
        file: name of the ONNX file.
        operators: of that file.

    Raises:
        UnsupportedGraphError: it has not one of the operators, or reads no opset as new as this.
    """
    release = _release(version)
    if release is None:
        return
    engine = f"tensorrt {version}"
    lacking = [name for name in operators.operators if release < OPERATORS_SINCE.get(name, release)]
    if lacking:
        raise lacking_operators(engine, file, lacking)
    most = most_opset(release)
    if most is not None and operators.opset > most:
        raise beyond_opset(engine, file, operators.opset, most)


def most_opset(release: Release) -> Optional[int]:
    """The newest opset that a release reads; None where that is not known."""
    for first, last, opset in _MOST_OPSET:
        if first <= release <= last:
            return opset
    return None


def _release(version: str) -> Optional[Release]:
    """The first two numbers of a release; None if it is written in another way."""
    numbers = version.split(".")[:2]
    if len(numbers) < 2 or not all(number.isdigit() for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1])
