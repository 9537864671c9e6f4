"""The models and the clip that ship with the project."""

from pathlib import Path

from common.domain.errors import ConfigurationError

_MODELS = Path(__file__).resolve().parent.parent / "models"
# The trained model, or else the random one, whose boxes mean nothing.
_BUNDLES = ("demo-r50", "demo-r18")


def shipped_bundle() -> Path:
    """Folder of the best model that ships with the project.

    Raises:
        ConfigurationError: none is here, as in an installation without the project's folder.
    """
    for name in _BUNDLES:
        if (_MODELS / name / "bundle.json").is_file():
            return _MODELS / name
    raise ConfigurationError(f"no bundle ships in {_MODELS}: name one with --bundle")


def shipped_clip() -> Path:
    """The demo clip; `annotations.json` beside it has its objects, in COCO's format.

    Raises:
        ConfigurationError: it is not here.
    """
    path = _MODELS / "demo-clip" / "clip.mp4"
    if not path.is_file():
        raise ConfigurationError(f"the demo clip is not at {path}")
    return path
