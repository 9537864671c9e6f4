"""Options that several commands share, and what follows from them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from common.domain.address import DEFAULT_PORT, is_loopback, parse_address
from common.domain.codec import Codec
from common.domain.errors import InvalidInputError
from common.domain.models import MODEL_NAME_RULE, is_model_name
from common.domain.placement import Placement, Stage
from common.engines.base import Device
from common.wire.placements import checked_model
from services.pipeline.precision import PRECISION_FORM, PrecisionWishes
from tandem.access import Credentials
from tandem.asked import pair_named
from tandem.cli.access import AccessOptions
from tandem.cli.console import activity
from tandem.client import DEFAULT_RECONNECT_SECONDS, DetectorClient
from tandem.cluster import ClusterOptions, LocalCluster
from tandem.signatures import REQUIRE_SIGNATURE_VARIABLE


class TranscodeChoice(StrEnum):
    """What a video's frames are made before they are sent."""

    JPEG = "jpeg"


DEFAULT_SERVER = f"127.0.0.1:{DEFAULT_PORT}"


class PlacementChoice(StrEnum):
    """A placement's name on the command line."""

    AUTO = "auto"
    FULL = Placement.FULL.value
    BACKBONE = Placement.BACKBONE.value
    TRANSFORMER = Placement.TRANSFORMER.value
    WORKSTATION = Placement.WORKSTATION.value

    @property
    def placement(self) -> Placement | None:
        """None for `auto`: the server chooses."""
        return None if self is PlacementChoice.AUTO else Placement(self.value)


AUTOMATIC = "auto"
PLACEMENT_NAMES = ", ".join(placement.value for placement in Placement)


def checked_address(text: str | None) -> str | None:
    """Let an orchestrator's address or nothing through, before anything is opened or started.

    Raises:
        InvalidInputError: it is no address.
    """
    if text is not None:
        parse_address(text, DEFAULT_PORT, "the server's address")
    return text


def checked_placement(name: str | None) -> str | None:
    """Let a placement's name, a pair of nodes, `auto` or nothing through; usage is checked here."""
    try:
        pair_named(name)
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from error
    return name


PlacementOption = Annotated[
    str | None,
    typer.Option(
        "--placement",
        metavar="NAME",
        callback=checked_placement,
        help=f"Which node runs which half of the model: {PLACEMENT_NAMES}, "
        "backbone=NODE,transformer=NODE, or auto, which leaves it to the server.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Write JSON to standard output, and nothing else there.")
]
BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="DIR",
        help="Folder of the model to run; the one that ships with Tandem if left out.",
    ),
]
RequireSignatureOption = Annotated[
    Path | None,
    typer.Option(
        metavar="KEY",
        envvar=REQUIRE_SIGNATURE_VARIABLE,
        help="Refuse a model that is not signed by this public key; see tandem model sign.",
    ),
]
ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        metavar="HOST[:PORT]",
        callback=checked_address,
        help="Address of the orchestrator.",
    ),
]
OptionalServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST[:PORT]",
        callback=checked_address,
        help="Orchestrator to use; without it all runs on this machine, for the time of the run.",
    ),
]
ServerReconnectOption = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="How long to wait for an orchestrator of --server that was lost, and send it again "
        "what it left unanswered (of a live source: drop it); 0: not at all.",
    ),
]
TranscodeOption = Annotated[
    TranscodeChoice | None,
    typer.Option(
        "--transcode",
        metavar="jpeg",
        help="Send a video's frames as JPEG, whatever they are. Without it, H.264 and H.265 are "
        "sent as they are where the services can decode them, and all else as JPEG.",
    ),
]


def checked_model_option(name: str | None) -> str | None:
    """Let a model's name or nothing through; usage is checked before anything is opened."""
    try:
        checked_model(name or "")
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from error
    return name


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        callback=checked_model_option,
        help="Which of the server's models, by its name; see tandem status. Its default model if "
        "left out.",
    ),
]
CodecOption = Annotated[
    Codec | None,
    typer.Option(
        metavar="NAME",
        help="How features travel between the stages: "
        + ", ".join(codec.value for codec in Codec)
        + "; the model's own if left out.",
    ),
]


class ObjectiveChoice(StrEnum):
    """What the orchestrator's automatic choice optimises."""

    THROUGHPUT = "throughput"
    LATENCY = "latency"
    BYTES = "bytes"
    ENERGY = "energy"
    ACCURACY = "accuracy"


ObjectiveOption = Annotated[
    ObjectiveChoice | None,
    typer.Option(
        "--objective",
        metavar="NAME",
        help="What auto optimises: "
        + ", ".join(each.value for each in ObjectiveChoice)
        + ". With accuracy, streams that ask for no codec get the finest latent rate that their "
        "link carries.",
    ),
]
BitsPerSecondOption = Annotated[
    int | None,
    typer.Option(
        "--bits-per-second",
        metavar="LIMIT",
        min=1,
        help="What features may take of the link between the stages, on average: the finest latent "
        "rate within it is chosen, frame after frame. Takes a model with a bottleneck; not beside "
        "--codec.",
    ),
]
DeviceOption = Annotated[
    Device | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Where ONNX Runtime computes: "
        + ", ".join(device.value for device in Device)
        + "; the CPU if left out.",
    ),
]


def checked_precision(text: str) -> str:
    """Let a precision through; usage is checked before anything is started."""
    try:
        PrecisionWishes.parse(text)
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from error
    return text


ENGINE_PRECISION_VARIABLE = "TANDEM_ENGINE_PRECISION"
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--engine-precision",
        metavar="PRECISION",
        envvar=ENGINE_PRECISION_VARIABLE,
        callback=checked_precision,
        help=f"What TensorRT computes in: {PRECISION_FORM}. auto is what the model recommends, "
        "where the engine can, and otherwise fp32.",
    ),
]
PacedOption = Annotated[
    str | None,
    typer.Option(
        metavar="STAGE=MS,...",
        help="Simulate slower devices: the least duration of one execution of a stage, such as "
        "backbone=33,transformer=7.",
    ),
]


def parse_paced(text: str | None) -> dict[Stage, float]:
    """Milliseconds by stage, from `backbone=33,transformer=7`.

    Raises:
        BadParameter: it is not of this form.
    """
    paced: dict[Stage, float] = {}
    for part in (text or "").split(",") if text else ():
        name, _, value = part.partition("=")
        try:
            stage, milliseconds = Stage(name.strip()), float(value)
        except ValueError:
            raise typer.BadParameter(
                f"{part!r} is not backbone=MS or transformer=MS", param_hint="--paced"
            ) from None
        if not 0 < milliseconds < float("inf") or stage in paced:
            raise typer.BadParameter(
                f"{part!r}: one positive number for each stage", param_hint="--paced"
            )
        paced[stage] = milliseconds
    return paced


def parse_models(texts: Sequence[str]) -> dict[str, Path]:
    """Folders by the names of their models, each from `fast=models/demo-dfine`.

    Raises:
        BadParameter: one is not of this form, or a name comes twice.
    """
    models: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or not folder:
            raise typer.BadParameter(f"{text!r} is not NAME=DIR", param_hint="--models")
        if not is_model_name(name):
            raise typer.BadParameter(
                f"{name!r} is no model's name: {MODEL_NAME_RULE}", param_hint="--models"
            )
        if name in models:
            raise typer.BadParameter(f"the name {name} comes twice", param_hint="--models")
        models[name] = Path(folder)
    return models


def refuse_both(codec: Codec | None, bits_per_second: int | None) -> None:
    """A codec leaves no rate to choose.

    Raises:
        BadParameter: a limit is given all the same.
    """
    if codec is not None and bits_per_second is not None:
        raise typer.BadParameter(
            f"--codec {codec.value} leaves no rate to choose", param_hint="--bits-per-second"
        )


def refuse_without_server(server: str | None, model: str | None) -> None:
    """Only a server has models by name.

    Raises:
        BadParameter: one is named without a server.
    """
    if server is None and model is not None:
        raise typer.BadParameter(
            "names a model of a server that runs already: give --server, or the model's folder by "
            "--bundle",
            param_hint="--model",
        )


def refuse_with_server(server: str | None, **local: object) -> None:
    """Options of local nodes make no sense beside `--server`.

    Raises:
        BadParameter: one is given all the same.
    """
    given = [f"--{name}" for name, value in local.items() if value]
    if server is not None and given:
        raise typer.BadParameter(
            f"{given[0]} sets up local nodes, so it cannot be used with --server",
            param_hint=given[0],
        )


@asynccontextmanager
async def local_cluster(options: ClusterOptions) -> AsyncIterator[LocalCluster]:
    """A local cluster; people see that it starts."""
    with ExitStack() as starting:
        starting.enter_context(activity("starting an edge node and a workstation node"))
        async with LocalCluster(options) as cluster:
            starting.close()
            yield cluster


@dataclass(frozen=True)
class RemoteServer:
    """An orchestrator that runs already.

    Attributes:
        address: of its port for clients.
        credentials: by what to connect; None: without encryption.
    """

    address: str
    credentials: Credentials | None

    def client(self, reconnect_seconds: float = DEFAULT_RECONNECT_SECONDS) -> DetectorClient:
        """A client of it."""
        return DetectorClient(
            self.address, reconnect_seconds=reconnect_seconds, credentials=self.credentials
        )

    def warnings(self) -> tuple[str, ...]:
        """What is insecure about the connection to it; a sentence each."""
        if self.credentials is not None:
            return self.credentials.warnings()
        if is_loopback(parse_address(self.address, DEFAULT_PORT).host):
            return ()
        return (f"this connection to {self.address} is without TLS: others may read and change it",)


def remote_server(address: str | None, access: AccessOptions) -> RemoteServer | None:
    """The orchestrator that a command was told to use; None: none, so that all runs here.

    Raises:
        BadParameter: there are options of access without a server.
        InvalidInputError: they do not fit together.
    """
    if address is not None:
        return RemoteServer(address, access.credentials())
    given = [f"--{name}" for name, is_given in access.given.items() if is_given]
    if given:
        raise typer.BadParameter(
            f"{given[0]} is for a server that runs already: give --server", param_hint=given[0]
        )
    return None


@asynccontextmanager
async def detector(
    server: RemoteServer | ClusterOptions, reconnect_seconds: float = DEFAULT_RECONNECT_SECONDS
) -> AsyncIterator[DetectorClient]:
    """A client of the server at this address, or of local nodes that live as long.

    A server that is lost is waited for; local nodes, which nobody starts again, are not.
    """
    async with AsyncExitStack() as stack:
        if isinstance(server, ClusterOptions):
            cluster = await stack.enter_async_context(local_cluster(server))
            server, reconnect_seconds = RemoteServer(cluster.orchestrator.address, None), 0.0
        yield await stack.enter_async_context(server.client(reconnect_seconds))
