"""Models of the package transformers, from its configurations and from safetensors.

No file is read but those of the folder, none as a pickle, no code that stands beside weights is
run, and nothing is asked of the network.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.domain.errors import ConfigurationError, TandemError
from detr.errors import WeightsError
from detr.importing.checkpoint import check_values
from detr.importing.reading import CONFIG_NAME, MOST_WEIGHT_BYTES
from detr.importing.stated import Reader, shown

_MOST_KEYS_NAMED = 5
# Of which each gets a name, in memory, before any weight is made.
_MOST_CLASSES = 100_000
# Counted in training; a frozen norm has none.
_COUNTER = ".num_batches_tracked"
# How transformers would run it, of which nothing holds here: in fp32, with whole outputs.
_RUNNING = ("dtype", "torch_dtype", "return_dict", "output_attentions", "output_hidden_states")


def transformers_class(module: str, name: str) -> Any:
    """Return a class of transformers.

    Args:
        module: below `transformers.models`.
        name: of the class.

    Raises:
        ConfigurationError: the package is not installed, or a release that lacks the family.
    """
    try:
        found = importlib.import_module(f"transformers.models.{module}")
        return getattr(found, name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"{module} models need the package transformers, release 5.23 or later: "
            'pip install "tandem-detr[train]"'
        ) from error


def build_model(
    module: str, prefix: str, config: Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build a model with random weights, in evaluation mode.

    Args:
        module: of the family, below `transformers.models`.
        prefix: of the names of its classes.
        config: the content of `config.json`.
        changes: values that replace those of the configuration.

    Raises:
        ConfigurationError: as `transformers_class`.
        WeightsError: transformers cannot build a model of this configuration.
    """
    kind = transformers_class(module, f"{prefix}ForObjectDetection")
    with _sentences(CONFIG_NAME):
        settings = _settings(module, prefix, config, changes)
        _check_size(kind, settings, CONFIG_NAME)
        model = kind(settings)
    return model.eval()  # type: ignore[no-any-return]


def load_model(
    module: str,
    prefix: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    folder: Path,
    *,
    changes: Mapping[str, Any] | None = None,
    may_lack: tuple[str, ...] = (),
) -> nn.Module:
    """Build a model and give it weights, in fp32 and evaluation mode.

    Args:
        module: as `build_model`, as are `prefix`, `config` and `changes`.
        prefix: see there.
        config: see there.
        tensors: the weights, under the keys of any release of transformers.
        folder: where they come from, for messages.
        changes: see there.
        may_lack: ends of keys that no detection depends on.

    Raises:
        ConfigurationError: as `build_model`.
        WeightsError: as `build_model`; or a key is missing, surplus or of another shape, or a
            tensor holds something else than finite floats.
    """
    for key, tensor in tensors.items():
        if not key.endswith(_COUNTER):
            check_values(folder, key, tensor)
    kind = transformers_class(module, f"{prefix}ForObjectDetection")
    with _sentences(str(folder)):
        settings = _settings(module, prefix, config, changes)
        _check_size(kind, settings, CONFIG_NAME)
        model, report = kind.from_pretrained(
            None,
            config=settings,
            state_dict=dict(tensors),
            output_loading_info=True,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            # It would raise without their names.
            ignore_mismatched_sizes=True,
        )
    _refuse(
        folder,
        f"of another shape than {CONFIG_NAME} says",
        [f"{key} {_shape(found)}" for key, found, _ in report["mismatched_keys"]],
    )
    _refuse(folder, "missing", [k for k in report["missing_keys"] if not k.endswith(may_lack)])
    _refuse(folder, "surplus", [k for k in report["unexpected_keys"] if not k.endswith(_COUNTER)])
    return model.eval()  # type: ignore[no-any-return]


def configuration_of(model: Any) -> dict[str, Any]:
    """The whole configuration of a model, as JSON has it."""
    content: dict[str, Any] = json.loads(model.config.to_json_string(use_diff=False))
    return content


def check_configuration(module: str, prefix: str, config: Mapping[str, Any], source: str) -> None:
    """Check that a model can be built by a configuration, without making its weights.

    Args:
        module: as `build_model`, as are `prefix` and `config`.
        prefix: see there.
        config: see there.
        source: what holds the configuration, for messages.

    Raises:
        ConfigurationError: as `build_model`.
        WeightsError: as `build_model`.
    """
    kind = transformers_class(module, f"{prefix}ForObjectDetection")
    with _sentences(source):
        _check_size(kind, _settings(module, prefix, config, None, source), source)


def _settings(
    module: str,
    prefix: str,
    config: Mapping[str, Any],
    changes: Mapping[str, Any] | None,
    source: str = CONFIG_NAME,
) -> Any:
    content = _without_running({**config, **(changes or {})})
    _check_classes(content, source)
    settings = transformers_class(module, f"{prefix}Config").from_dict(content)
    # Plain products and a softmax: what every exporter and every engine knows.
    settings._attn_implementation = "eager"
    return settings


def _check_classes(config: Mapping[str, Any], source: str) -> None:
    """Refuse a number of classes that is none; transformers takes it for whatever it can be."""
    if "num_labels" not in config:
        return
    classes = Reader(source, config).whole("num_labels")
    if classes is None or classes > _MOST_CLASSES:
        raise WeightsError(
            f"{source}: num_labels is {shown(config['num_labels'])}, not a whole number from "
            f"1 to {_MOST_CLASSES}."
        )


def _check_size(kind: Any, settings: Any, source: str) -> None:
    """Refuse a model that would fill the memory, before it does."""
    with torch.device("meta"):
        model = kind(settings)
    size = sum(value.numel() for value in model.parameters()) * torch.float32.itemsize
    if size > MOST_WEIGHT_BYTES:
        raise WeightsError(
            f"{source}: the model that it describes has {size / 2**30:.0f} GiB of weights, "
            f"more than the {MOST_WEIGHT_BYTES >> 30} GiB that are taken."
        )


def _without_running(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out, here and in the backbone's, what would make halves of a model differ in kind."""
    return {
        name: _without_running(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in _RUNNING
    }


def _shape(sizes: Any) -> str:
    return f"({' x '.join(str(size) for size in sizes)})"


def _refuse(folder: Path, what: str, keys: list[str]) -> None:
    if not keys:
        return
    keys = sorted(keys)
    more = len(keys) - _MOST_KEYS_NAMED
    named = ", ".join(keys[:_MOST_KEYS_NAMED]) + (f" and {more} more" if more > 0 else "")
    raise WeightsError(f"{folder}: {named} {'is' if len(keys) == 1 else 'are'} {what}")


@contextlib.contextmanager
def computing(source: str) -> Iterator[None]:
    """Make one sentence of what a model raises that does not fit together.

    Args:
        source: what describes the model.

    Raises:
        WeightsError: it cannot be computed.
    """
    try:
        yield
    except (TandemError, OSError, MemoryError):
        raise
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise WeightsError(
            f"{source}: the model that it describes cannot be computed: {text}"
        ) from error


@contextlib.contextmanager
def _sentences(source: str) -> Iterator[None]:
    """Keep transformers quiet, and make one sentence of what it raises."""
    from transformers.utils import logging as untyped

    logging: Any = untyped

    before, shows_progress = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    except (ConfigurationError, WeightsError, MemoryError):
        raise
    # It raises whatever it runs into where values do not fit together.
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise WeightsError(f"{source}: transformers can make no model of this: {text}") from error
    finally:
        logging.set_verbosity(before)
        if shows_progress:
            logging.enable_progress_bar()
