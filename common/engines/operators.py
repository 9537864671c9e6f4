"""Which operators a graph is made of, and the sentences for those that an engine lacks."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import DefaultDict, Dict, FrozenSet, Iterable, Mapping, Set, Tuple

from common.domain.errors import UnsupportedGraphError, shortened
from common.domain.redaction import fit_to_show
from common.onnx_messages import FUNCTION, LENGTH, NODE, OPSET, VARINT, Field, model_fields

# In each message, the fields that are looked at (onnx/onnx.proto).
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10

_ONNX_DOMAIN = "ai.onnx"
# What else there is to do about an operator that an engine lacks.
_REMEDIES = {"GridSample": "import the model with --sampling discrete, if its family has that"}
_ELSEWHERE = "run this half on another engine or node"
# Of several operators, so many are named: a stage's reason has to fit into one line.
_MOST_NAMED = 4
_MOST_NAME_BYTES = 60


@dataclass(frozen=True)
class GraphOperators:
    """What an ONNX file asks of an engine.

    Attributes:
        operators: the operators of all nodes, less the functions that the file defines itself; one
            of another domain than ONNX's own is named `DOMAIN:NAME`.
        opsets: the version of each domain's operators; ONNX's own domain is the empty string.
    """

    operators: FrozenSet[str]
    opsets: Mapping[str, int]

    @property
    def opset(self) -> int:
        """The version of ONNX's own operators; 0 if the file names none."""
        return self.opsets.get("", 0)


def operators_of(content: bytes, name: str) -> GraphOperators:
    """Find the operators of an ONNX file, those of nested graphs and of functions too.

    Args:
        content: of the file.
        name: of the file, for errors.

    Raises:
        ConfigurationError: this is no ONNX file.
    """
    texts: Dict[str, DefaultDict[int, Dict[int, str]]] = {
        kind: defaultdict(dict) for kind in (NODE, FUNCTION, OPSET)
    }
    versions: Dict[int, int] = {}
    for message, field in model_fields(content, name):
        of_kind = texts.get(message.kind)
        if of_kind is None:
            continue
        if field.number in _looked_at(message.kind) and field.wire_type == LENGTH:
            text = content[field.value : field.end].decode("utf-8", "replace")
            of_kind[message.start][field.number] = text
        if message.kind == OPSET and _is_number(field, _OPSET_VERSION):
            versions[message.start] = field.value
            of_kind[message.start].setdefault(_OPSET_DOMAIN, "")
    asked = _names(texts[NODE].values(), _NODE_DOMAIN, _NODE_OPERATOR)
    defined = _names(texts[FUNCTION].values(), _FUNCTION_DOMAIN, _FUNCTION_NAME)
    opsets: Dict[str, int] = {}
    for start, found in texts[OPSET].items():
        domain = _own_domain(found[_OPSET_DOMAIN])
        opsets[domain] = max(opsets.get(domain, 0), versions.get(start, 0))
    return GraphOperators(frozenset(asked - defined), opsets)


def _looked_at(kind: str) -> Tuple[int, ...]:
    return {
        NODE: (_NODE_OPERATOR, _NODE_DOMAIN),
        FUNCTION: (_FUNCTION_NAME, _FUNCTION_DOMAIN),
        OPSET: (_OPSET_DOMAIN,),
    }[kind]


def _is_number(field: Field, number: int) -> bool:
    return field.number == number and field.wire_type == VARINT


def _names(found: Iterable[Mapping[int, str]], domain: int, name: int) -> Set[str]:
    return {qualified(each.get(domain, ""), each[name]) for each in found if name in each}


def _own_domain(domain: str) -> str:
    return "" if domain == _ONNX_DOMAIN else domain


def qualified(domain: str, operator: str) -> str:
    """An operator's name, with its domain unless that is ONNX's own."""
    domain = _own_domain(domain)
    return f"{domain}:{operator}" if domain else operator


def lacking_operators(
    engine: str, file: str, operators: Iterable[str], detail: str = ""
) -> UnsupportedGraphError:
    """The error of a graph with operators that an engine does not have.

    Args:
        engine: its name and release.
        file: name of the ONNX file.
        operators: that it lacks.
        detail: where in the graph, or of which opset.
    """
    # A file may name them as it likes, and this becomes a line of a log and of a call's metadata.
    names = sorted({fit_to_show(shortened(name, _MOST_NAME_BYTES)) for name in operators})
    remedies = [_REMEDIES[name] for name in names if name in _REMEDIES]
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    listed = f"operator{'s' if len(names) > 1 else ''} {', '.join(names[:_MOST_NAMED])}{more}"
    where = f" ({detail})" if detail else ""
    return UnsupportedGraphError(
        f"engine {engine} has no {listed}, which {file} needs{where}: "
        f"{', or '.join([*remedies, _ELSEWHERE])}"
    )


def beyond_opset(engine: str, file: str, opset: int, most: int) -> UnsupportedGraphError:
    """The error of a graph whose operators are of a newer opset than an engine reads."""
    return UnsupportedGraphError(
        f"engine {engine} reads ONNX opset {most} at most, and {file} is of opset {opset}: take a "
        f"newer release of the engine, or {_ELSEWHERE}"
    )


def beyond_ir_version(engine: str, file: str, version: int, most: int) -> UnsupportedGraphError:
    """The error of a file in a newer format than an engine reads."""
    return UnsupportedGraphError(
        f"engine {engine} reads ONNX files of IR version {most} at most, and {file} is of version "
        f"{version}: take a newer release of the engine, or {_ELSEWHERE}"
    )


def beyond_family(engine: str, model: str, family: str) -> UnsupportedGraphError:
    """The error of a half of another family than those that an engine rebuilds.

    Args:
        engine: its name and release.
        model: the bundle's name.
        family: the bundle's.
    """
    return UnsupportedGraphError(
        f"engine {engine} rebuilds plain DETRs only, and {model} is of the family {family}: "
        f"{_ELSEWHERE}"
    )
