"""The experiment's configuration file: what to run, on which nodes, over which links."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from common.bundle import Architecture, FixedInput
from common.domain.codec import Codec
from common.domain.errors import ConfigurationError
from common.domain.placement import Placement, Stage
from common.validation import problems
from common.yaml_files import read_yaml

UNSHAPED: Literal["unshaped"] = "unshaped"
Link = Annotated[float, Field(gt=0)] | Literal["unshaped"]
"""Megabits a second in each direction, or as fast as it is."""
NodeName = Literal["edge", "workstation"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _inconsistent(message: str) -> PydanticCustomError:
    return PydanticCustomError("inconsistent", message)


class ModelPlan(_Frozen):
    """One DETR: a bundle that is there, or an architecture that is given random weights."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.]+$", description="in file names and figures: R50")
    bundle: Path | None = Field(None, description="folder of the bundle")
    architecture: Architecture | None = Field(None, description="exported with random weights")
    frames: int | None = Field(None, gt=1, description="in place of the experiment's own")
    single_frames: int | None = Field(None, gt=0, description="in place of the experiment's own")

    @model_validator(mode="after")
    def _check_origin(self) -> Self:
        if self.bundle is not None and self.architecture is not None:
            raise _inconsistent("a model has a bundle or an architecture, not both")
        return self


class StageMilliseconds(_Frozen):
    """How long an imitated device takes for one execution of each half."""

    backbone: float = Field(gt=0)
    transformer: float = Field(gt=0)


class SimulatedDevice(_Frozen):
    """A device that a node imitates: its stages take turns, each for a given time."""

    name: str = Field(description="what is imitated, for people")
    source: str = Field(description="where the times come from, in a sentence")
    milliseconds: dict[str, StageMilliseconds] = Field(description="by the model's name")


class LocalNode(_Frozen):
    """A node made of processes of this machine, pinned to a core."""

    core: int = Field(ge=0)
    simulates: SimulatedDevice | None = None


class LocalNodes(_Frozen):
    """Both nodes on this machine; with a shaped link each in a network namespace (root)."""

    kind: Literal["local"] = "local"
    engine: str = Field("onnxruntime", description="of all stages; none: a simulated device")
    edge: LocalNode = LocalNode(core=0)
    workstation: LocalNode = LocalNode(core=1)
    cannot_shape: Literal["refuse", "unshaped"] = Field(
        "refuse", description="what to do about shaped links where none can be made"
    )

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        simulated = [node.simulates is not None for node in (self.edge, self.workstation)]
        if self.engine == "none" and not all(simulated):
            raise _inconsistent("engine none computes nothing: both nodes have to be simulated")
        return self


class RemoteSystem(_Frozen):
    """Services that run elsewhere, started by whoever runs the experiment."""

    orchestrator: str = Field(description="host:port")
    metrics: dict[NodeName, dict[Stage, str]] = Field(
        description="URL of /metrics of each stage of each node"
    )


class RemoteNodes(_Frozen):
    """Nodes that are machines of their own; what they are cannot be read from here."""

    kind: Literal["remote"]
    edge: str = Field(description="the device, its software and its power mode, in a sentence")
    workstation: str = Field(description="the same")
    systems: dict[str, RemoteSystem] = Field(description="by the name of the model they run")


class ClipSource(_Frozen):
    """The shipped clip at the input size, over and over."""

    kind: Literal["clip"] = "clip"


class FolderSource(_Frozen):
    """The JPEG and PNG files of a folder, by name, over and over."""

    kind: Literal["folder"]
    folder: Path


class CocoSource(_Frozen):
    """The first images of a COCO set, by image id."""

    kind: Literal["coco"]
    images: Path
    annotations: Path
    limit: int = Field(1000, gt=0)


class Config(_Frozen):
    """The whole file."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    nodes: Annotated[LocalNodes | RemoteNodes, Field(discriminator="kind")]
    cameras: NodeName = Field("edge", description="node that client and orchestrator run on")
    models: tuple[ModelPlan, ...] = Field(min_length=1)
    input: FixedInput = Field(description="of exported models, and of the clip's frames")
    placements: tuple[Placement, ...] = tuple(Placement)
    codecs: tuple[Codec, ...] = (Codec.INT8,)
    links: tuple[Link, ...] = (UNSHAPED,)
    source: Annotated[ClipSource | FolderSource | CocoSource, Field(discriminator="kind")] = (
        ClipSource()
    )
    frames: int = Field(100, gt=1, description="measured of a run, as many in flight as go")
    warm_up: int = Field(10, ge=0, description="answered before, and left out")
    cool_down: int = Field(
        8, ge=0, description="answered after, and left out: more than the server's window"
    )
    single_frames: int = Field(20, gt=0, description="measured then, one in flight at a time")
    single_warm_up: int = Field(2, ge=0, description="answered before, and left out")
    repeats: int = Field(3, gt=0)
    seed: int = 20210630
    memory_kind: str = Field("process_rss", description="label of tandem_memory_bytes to report")
    power_rails: dict[NodeName, str] = Field(
        default_factory=dict, description="the rail that is the whole device, where it is known"
    )
    remarks: str = Field("", description="Markdown that the page says below the thesis's numbers")
    compare_with_thesis: bool = Field(
        False, description="edge and workstation are, or imitate, the thesis's"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise _inconsistent("two models have the same name")
        if isinstance(self.nodes, LocalNodes):
            self._check_local(self.nodes)
        else:
            self._check_remote(self.nodes)
        return self

    def _check_local(self, nodes: LocalNodes) -> None:
        for model in self.models:
            if model.bundle is None and model.architecture is None:
                raise _inconsistent(f"model {model.name} needs a bundle or an architecture")
            for node in (nodes.edge, nodes.workstation):
                if node.simulates and model.name not in node.simulates.milliseconds:
                    raise _inconsistent(f"{node.simulates.name}: no times for {model.name}")

    def _check_remote(self, nodes: RemoteNodes) -> None:
        missing = [model.name for model in self.models if model.name not in nodes.systems]
        if missing:
            raise _inconsistent(f"no remote system runs {', '.join(missing)}")
        if self.links != (UNSHAPED,):
            raise _inconsistent("a link between machines is what it is: leave links out")

    def simulated(self) -> list[str]:
        """What is imitated on each node, a sentence each; empty when nothing is."""
        if not isinstance(self.nodes, LocalNodes):
            return []
        return [
            f"the {node} imitates {plan.simulates.name}"
            for node, plan in (("edge", self.nodes.edge), ("workstation", self.nodes.workstation))
            if plan.simulates
        ]


def load_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigurationError: it cannot be read or is wrong, naming each bad key.
    """
    try:
        return Config.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {problems(error, 'file')}") from error
