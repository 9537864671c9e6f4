"""What a stage serves, on the wire, in both directions."""

from __future__ import annotations

from common.domain.errors import InvalidInputError, shortened
from common.domain.models import (
    MOST_MODELS,
    BundleSource,
    ServedModel,
    StageModels,
    is_digest,
    is_model_name,
)
from protos.tandem.v1 import models_pb2

_SOURCES = {
    BundleSource.SETTINGS: models_pb2.BUNDLE_SOURCE_SETTINGS,
    BundleSource.RELOADED: models_pb2.BUNDLE_SOURCE_RELOADED,
    BundleSource.DEPLOYED: models_pb2.BUNDLE_SOURCE_DEPLOYED,
}
_SOURCES_BY_NUMBER = {number: source for source, number in _SOURCES.items()}


def stage_models_to_wire(models: StageModels) -> models_pb2.StageModels:
    """What a stage tells of itself."""
    return models_pb2.StageModels(
        models=[
            models_pb2.ServedModel(
                name=each.name,
                bundle_digest=each.bundle_digest,
                bundle_name=each.bundle_name,
                source=_SOURCES[each.source],
                note=each.note,
                out_of_order=each.out_of_order,
            )
            for each in models.models
        ],
        loaded_digests=sorted(models.loaded_digests),
    )


def stage_models_from_wire(wire: models_pb2.StageModels) -> StageModels:
    """What a stage has told.

    Raises:
        InvalidInputError: a digest or a name is none, or there are too many models.
    """
    if len(wire.models) > MOST_MODELS + 1:
        raise InvalidInputError(f"a stage has at most {MOST_MODELS} models beside the default one")
    for each in wire.models:
        if each.name and not is_model_name(each.name):
            raise InvalidInputError(f"{each.name!r} is no model's name")
    models = tuple(
        ServedModel(
            name=each.name,
            bundle_digest=each.bundle_digest,
            bundle_name=each.bundle_name,
            # A newer stage may have further ones.
            source=_SOURCES_BY_NUMBER.get(each.source, BundleSource.SETTINGS),
            note=each.note,
            out_of_order=shortened(each.out_of_order),
        )
        for each in wire.models
    )
    digests = frozenset(wire.loaded_digests)
    if not all(map(is_digest, [*digests, *(each.bundle_digest for each in models)])):
        raise InvalidInputError("a digest of a bundle is no sha256 in hexadecimal")
    return StageModels(models, digests)
