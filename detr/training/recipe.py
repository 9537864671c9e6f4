"""Recipes: everything that determines a training run, in one frozen, typed file.

Some ship with the project and are found by name; a user's own are found by path.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.bundle import Architecture, InputPolicy, Normalization, StretchInput
from common.domain.errors import ConfigurationError
from common.validation import problems
from common.yaml_files import parse_yaml

AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)


def load_recipe_file(kind: type[AnyRecipe], package: str, name_or_file: str) -> AnyRecipe:
    """Load a recipe.

    Args:
        kind: what it is validated as.
        package: whose folder `recipes` holds those that ship.
        name_or_file: one of their names, or the path of a YAML file.

    Raises:
        ConfigurationError: there is no such recipe, or it is malformed, naming each bad key.
    """
    return validated(kind, read_recipe_file(package, name_or_file), name_or_file)


def read_recipe_file(package: str, name_or_file: str) -> Any:
    """Return what a recipe's file holds; arguments and errors as `load_recipe_file`."""
    shipped = resources.files(package) / "recipes" / f"{name_or_file}.yaml"
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        text = path.read_text(encoding="utf-8")
    elif shipped.is_file():
        text = shipped.read_text(encoding="utf-8")
    else:
        names = ", ".join(shipped_recipe_names(package))
        raise ConfigurationError(f"there is no recipe {name_or_file}; shipped recipes: {names}.")
    return parse_yaml(text, f"recipe {name_or_file}")


def validated(kind: type[AnyRecipe], content: Any, name_or_file: str) -> AnyRecipe:
    """Return a recipe file's content, checked; arguments and errors as `load_recipe_file`."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(f"recipe {name_or_file}: {problems(error, 'content')}") from error


def shipped_recipe_names(package: str) -> list[str]:
    """Return the names of the recipes that ship in a package."""
    folder = resources.files(package) / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())


class Frozen(BaseModel):
    """A value of a recipe: immutable, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ScenesData(Frozen):
    """Scenes composed on the fly; `val` scenes stand on photographs that training never shows."""

    kind: Literal["scenes"] = "scenes"
    max_objects: int = Field(5, ge=1)
    other_aspect_share: float = Field(
        0.0, ge=0, le=1, description="share of scenes with another shape than the input, padded"
    )
    reduced_share: float = Field(
        0.0, ge=0, le=1, description="share of scenes drawn at 2.5 times the size and scaled down"
    )
    early_steps: int = Field(
        0, ge=0, description="steps before the input has its full size; they cost far less"
    )
    early_scale: float = Field(
        1.0, gt=0, le=1, description="size of the input in the early steps, as a share"
    )
    first_scene: int = Field(
        0, ge=0, description="number of the first scene; another run may have seen those before it"
    )
    val_scenes: int = Field(500, gt=0)
    val_height: int = Field(360, gt=0, description="pixels")
    val_width: int = Field(480, gt=0, description="pixels")


class CocoData(Frozen):
    """Folders of pictures with COCO instances files; class rows are COCO category ids."""

    kind: Literal["coco"] = "coco"
    train_images: Path
    train_annotations: Path
    val_images: Path
    val_annotations: Path
    short_sides: tuple[int, ...] = Field(
        (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800),
        description="pixels; one is drawn for each picture (official coco.py)",
    )
    longest_side: int = Field(1333, gt=0, description="pixels")
    categories: dict[int, str] = Field(
        default_factory=dict,
        description="rows of the class head and their names; files that give these names other "
        "ids are matched by name. Empty: the ids in the files are the rows",
    )


class TrainingParts(Frozen):
    """Parts that exist in training only."""

    query_groups: Annotated[int, Field(ge=1)] = 1
    dense_head_weight: Annotated[float, Field(ge=0, description="0: no dense head")] = 0.0


class FromScratch(Frozen):
    """Starting values for training without any pretrained weights."""

    kind: Literal["scratch"] = "scratch"
    query_grid: tuple[int, int] | None = Field(
        default=None, description="rows and columns of the queries' places; for the family detr"
    )


class FromWeights(Frozen):
    """Start from a state dict (`torch.save`) under the official names, or from random values."""

    kind: Literal["weights"] = "weights"
    file: Path | None = None


class FromRecord(Frozen):
    """Train a released model further: its weights, with new parts for training."""

    kind: Literal["record"] = "record"
    folder: Path | None = Field(default=None, description="folder of the release's record")


class FromTeacher(Frozen):
    """A distilled student: the teacher's weights wherever shapes agree, its queries included."""

    kind: Literal["teacher"] = "teacher"
    backbone_file: Path | None = Field(
        default=None,
        description="torchvision's weights for the backbone; without: started from scratch",
    )


class Optimiser(Frozen):
    """AdamW; no weight decay on norms, biases and queries."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    backbone_factor: Annotated[
        float, Field(gt=0, description="factor of the backbone's learning rate")
    ] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip_norm: Annotated[float, Field(gt=0)] = 0.1


class CosineSchedule(Frozen):
    """Linear warm-up, then a cosine down to a share of the learning rate."""

    shape: Literal["cosine"] = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    final_share: float = Field(default=0.01, ge=0, le=1)


class StepSchedule(Frozen):
    """Linear warm-up, then one drop (the paper's schedule)."""

    shape: Literal["step"] = "step"
    warmup_steps: int = Field(0, ge=0)
    drop_at: int = Field(gt=0)
    drop_factor: float = Field(0.1, gt=0, le=1)


class FlatSchedule(Frozen):
    """Linear warm-up, a constant learning rate, and a linear decay over the last steps.

    Until the decay begins, nothing depends on how many steps there will be: such a run can be
    made longer or shorter on the way (Zhai et al., 2022, arXiv 2106.04560, section 3.5).
    """

    shape: Literal["flat"] = "flat"
    warmup_steps: int = Field(0, ge=0)
    decay_steps: int = Field(gt=0)
    final_share: float = Field(0.01, ge=0, le=1)


class PiecewiseSchedule(Frozen):
    """Linear warm-up, then straight lines between points."""

    shape: Literal["piecewise"] = "piecewise"
    warmup_steps: int = Field(0, ge=0)
    points: tuple[tuple[int, float], ...] = Field(
        min_length=1, description="step and share of the learning rate, by ascending step"
    )


Schedule = Annotated[
    CosineSchedule | StepSchedule | FlatSchedule | PiecewiseSchedule, Field(discriminator="shape")
]


class Evaluation(Frozen):
    """How often, and on how many of the first pictures of `val`, AP is computed."""

    every_steps: int = Field(gt=0)
    images: int = Field(gt=0)


class TeacherIdentity(Frozen):
    """What a student is distilled from."""

    name: str
    sha256: str = Field(description="digest of its weights, see `detr.distillation.teacher`")
    architecture: Architecture


class FamilyTeacher(Frozen):
    """What a student of another family than DETR's is distilled from."""

    name: str
    sha256: str = Field(description="digest of its weights, see `detr.distillation.d_fine`")
    configuration: dict[str, Any]


class Distillation(Frozen):
    """How a student learns from a teacher; see `detr.distillation`."""

    method: Literal["stages", "joint", "encoder"]
    teacher: TeacherIdentity | FamilyTeacher
    phase_shares: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0,),
        min_length=1,
        description="shares of the steps; each phase runs through the whole schedule",
    )
    fit_batches: int = Field(
        default=0,
        ge=0,
        description="batches to solve for the first weights on; 0: start from scratch",
    )
    weights: dict[str, tuple[tuple[float, float], ...]] = Field(
        default_factory=dict,
        description="for each loss, points (share of the steps done, weight), joined by lines",
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


class Recipe(Frozen):
    """A training run; with the code's version it determines the result."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    seed: int = Field(ge=0)
    family: Literal["detr", "d_fine"] = "detr"
    architecture: Architecture | None = Field(default=None, description="of the family detr")
    configuration: dict[str, Any] | None = Field(
        default=None, description="of another family: what its `config.json` holds"
    )
    input: InputPolicy
    normalization: Normalization = Normalization()
    norm: Literal["batch", "frozen"] = "batch"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="precision of the model's computation; weights are always fp32"
    )
    data: Annotated[ScenesData | CocoData, Field(discriminator="kind")]
    parts: TrainingParts = TrainingParts()
    start: Annotated[
        FromScratch | FromWeights | FromRecord | FromTeacher, Field(discriminator="kind")
    ]
    batch_size: int = Field(gt=0, description="images a step, over all processes")
    steps: int = Field(gt=0)
    optimiser: Optimiser = Optimiser()
    schedule: Schedule
    ema_decay: float = Field(0.0, ge=0, lt=1, description="0: no averaging")
    no_object_shift: float = Field(
        default=0.0,
        description="added to the logit of 'no object' in what ships: the loss counts that class "
        "for a tenth (shift ln 10), and the score where a box is as likely right as wrong is to "
        "be the threshold t (shift -ln(t / (1 - t)))",
    )
    score_shift: float = Field(
        default=0.0,
        description="added to every class logit of what ships, in families that score by sigmoid: "
        "so that a score of 0.7 means that a box is as likely right as wrong",
    )
    evaluation: Evaluation
    checkpoint_every_steps: int = Field(gt=0)
    distillation: Distillation | None = None

    @model_validator(mode="after")
    def _family_is_described(self) -> Recipe:
        if self.family == "detr":
            _require(self.architecture is not None, "the family detr needs an architecture")
            _require(self.configuration is None, "the family detr has no configuration")
            _require(self.score_shift == 0, "score_shift is for families that score by sigmoid")
            _require(self.input.policy != "stretch", "the family detr takes no stretched input")
        return self

    @model_validator(mode="after")
    def _other_families_take_what_they_know(self) -> Recipe:
        if self.family != "detr":
            started = isinstance(self.start, FromWeights) and self.start.file is not None
            known = self.configuration is not None or started
            _require(known, f"the family {self.family} needs a configuration")
            _require(self.architecture is None, f"architecture is not for {self.family}")
            _require(self.parts == TrainingParts(), f"parts are not for {self.family}")
            _require(self.dropout == 0, "dropout is a field of the configuration")
            _require(self.no_object_shift == 0, f"{self.family} has no 'no object': score_shift")
            if not isinstance(self.input, StretchInput):
                raise ValueError(f"the family {self.family} takes an input of policy stretch only")
            sides = self.input.height, self.input.width
            strides = (self.configuration or {}).get("feat_strides", [32])
            whole = isinstance(strides, list) and all(type(x) is int and x > 0 for x in strides)
            _require(whole and strides, "configuration: feat_strides are no whole numbers above 0")
            stride = max(strides)
            _require(
                not any(side % stride for side in sides),
                f"input: {sides[0]} x {sides[1]} are no multiples of the coarsest stride, {stride}",
            )
        return self

    @model_validator(mode="after")
    def _grid_has_a_cell_for_each_query(self) -> Recipe:
        if isinstance(self.start, FromScratch) and self.architecture is not None:
            if self.start.query_grid is None:
                raise ValueError("the family detr starts from scratch with a query grid")
            rows, columns = self.start.query_grid
            if rows * columns != self.architecture.queries:
                raise ValueError(
                    f"a query grid of {rows} x {columns} does not fit "
                    f"{self.architecture.queries} queries"
                )
        return self

    @property
    def detr_architecture(self) -> Architecture:
        """The architecture, for what is possible with the family detr only.

        Raises:
            ConfigurationError: the recipe is of another family.
        """
        if self.architecture is None:
            raise ConfigurationError(
                f"recipe {self.name} trains a model of the family {self.family}; this is possible "
                "with the family detr only."
            )
        return self.architecture

    @property
    def classes(self) -> int:
        """Rows of the class head, less the one of 'no object' where there is one."""
        if self.architecture is not None:
            return self.architecture.classes
        return int((self.configuration or {}).get("num_labels", 0))


def with_precision(recipe: Recipe, precision: Literal["fp32", "bf16", "fp16"] | None) -> Recipe:
    """Return the recipe, computing in `precision` if one is given."""
    return recipe if precision is None else recipe.model_copy(update={"precision": precision})


def load_recipe(name_or_file: str) -> Recipe:
    """Load a training recipe by name or by path; errors as `load_recipe_file`."""
    return load_recipe_file(Recipe, "detr.training", name_or_file)
