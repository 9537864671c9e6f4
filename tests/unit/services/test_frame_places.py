"""Whose frames a backbone serves: by the stream's word, and by the certificate if there is one."""

from __future__ import annotations

from typing import FrozenSet, Optional

import pytest

from common.domain.errors import PreconditionError
from common.security.identity import Identity, Role
from services.backbone.places import FramePlaces

EDGE = Identity(Role.ORCHESTRATOR, "edge")
HERE = frozenset({"workstation", "main"})


@pytest.mark.parametrize(
    ("places", "frames_from", "caller"),
    [
        (None, "edge", EDGE),
        (None, "", None),
        (HERE, "workstation", None),
        (HERE, "workstation", Identity(Role.ORCHESTRATOR, "workstation")),
        (HERE, "workstation", Identity(Role.ORCHESTRATOR, "main")),
    ],
)
def test_served(
    places: Optional[FrozenSet[str]], frames_from: str, caller: Optional[Identity]
) -> None:
    FramePlaces("workstation", places).require(frames_from, caller)


@pytest.mark.parametrize(
    ("frames_from", "caller", "words"),
    [
        ("edge", None, "and not those of 'edge'"),
        ("", None, "and not those of an unknown place"),
        ("edge", Identity(Role.ORCHESTRATOR, "main"), "and not those of 'edge'"),
        # Its settings say that it runs where it does not.
        ("workstation", EDGE, "and not those of 'orchestrator/edge', whatever it says"),
    ],
)
def test_refused(frames_from: str, caller: Optional[Identity], words: str) -> None:
    with pytest.raises(PreconditionError, match=words):
        FramePlaces("workstation", HERE).require(frames_from, caller)
