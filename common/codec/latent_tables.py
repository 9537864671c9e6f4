"""`latent_tables.json`: what the entropy coder of latents knows ahead of time, in integers."""

from __future__ import annotations

from typing import Dict, Tuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import Annotated, Literal, Self

from common.bundle import Manifest
from common.bundle.folder import LATENT_TABLES_NAME
from common.codec.latent_contexts import KINDS
from common.domain.codec import LATENT_CODECS, Codec
from common.domain.errors import ConfigurationError
from common.validation import problems

# Far beyond any odds that count, so that no sum overflows.
_Entry = Annotated[int, Field(ge=-2048, le=2048)]
RateTables = Dict[str, Dict[str, Tuple[_Entry, ...]]]
"""Kind of decision -> table -> the log-odds that each of its entries adds, in `ODDS_UNIT`."""


class LatentTables(BaseModel):
    """The content of `latent_tables.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    channels: int = Field(gt=0, le=1024, description="channels of the latents")
    rates: Dict[str, RateTables] = Field(description="codec -> its tables")

    @model_validator(mode="after")
    def _check(self) -> Self:
        latent = [codec.value for codec in LATENT_CODECS]
        if set(self.rates) != set(latent):
            raise PydanticCustomError("rates", f"rates has to have the keys {', '.join(latent)}")
        expected = {
            kind: {name: size.entries(self.channels) for name, size in tables.items()}
            for kind, tables in KINDS.items()
        }
        for codec, rate in self.rates.items():
            found = {
                kind: {name: len(entries) for name, entries in tables.items()}
                for kind, tables in rate.items()
            }
            if found != expected:
                raise PydanticCustomError("tables", f"{codec} has not the tables of the format")
        return self

    def of(self, codec: Codec) -> RateTables:
        """The tables of one rate."""
        return self.rates[codec.value]


def read_latent_tables(content: bytes, manifest: Manifest) -> LatentTables:
    """Read the tables of a bundle with a bottleneck.

    Args:
        content: of the bundle's file `latent_tables.json`.
        manifest: of the bundle.

    Raises:
        ConfigurationError: the content is malformed, or made for other latents.
    """
    try:
        tables = LatentTables.model_validate_json(content)
    except ValidationError as error:
        raise ConfigurationError(f"{LATENT_TABLES_NAME}: {problems(error)}") from error
    bottleneck = manifest.bottleneck
    if bottleneck is None or bottleneck.channels != tables.channels:
        expected = bottleneck.channels if bottleneck else 0
        raise ConfigurationError(
            f"{LATENT_TABLES_NAME} is for {tables.channels} channels of latents, but the bundle "
            f"has {expected}"
        )
    return tables
