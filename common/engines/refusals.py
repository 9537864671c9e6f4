"""Finds in ONNX Runtime's and OpenVINO's words which operator of a graph they do not have."""

from __future__ import annotations

import re
from typing import Optional

from common.domain.errors import UnsupportedGraphError
from common.engines.operators import (
    beyond_ir_version,
    beyond_opset,
    lacking_operators,
    qualified,
)

# The words of ONNX Runtime 1.19 to 1.32; `acme:Op(-1)` is of domain acme, and of no known version.
_NOT_REGISTERED = re.compile(r"(?P<domain>[\w.-]*):(?P<name>\w+)\(-?\d+\) is not a registered")
_NO_OPERATOR = re.compile(
    r"No Op registered for (?P<name>\w+) with domain_version of (?P<opset>\d+)"
)
_NO_KERNEL = re.compile(r"Could not find an implementation for (?P<name>\w+)\((?P<opset>\d+)\)")
_NO_OPSET = re.compile(r"No opset import for domain '(?P<domain>[^']*)'")
_NODE = re.compile(r'In Node, \("[^"]*", (?P<name>\w+), "(?P<domain>[^"]*)"')
_OPSET = re.compile(r"Opset (\d+) is under development.*till opset (\d+)", re.DOTALL)
_IR_VERSION = re.compile(r"model IR version: (\d+), max supported IR version: (\d+)")
# Those of OpenVINO 2024 to 2026: of ONNX's own domain as `Det-11`, of another one as `acme.Op`.
_NO_RULE = re.compile(r"No conversion rule found for operations: ([^\n]+)")
_NOT_CONVERTED = re.compile(r"Conversion is failed for: ([^\n]+)")
_NO_LAYER = re.compile(r"[Uu]nsupported operation of type:? (\w+)")


def onnxruntime_refusal(words: str, engine: str, file: str) -> Optional[UnsupportedGraphError]:
    """What ONNX Runtime's error says of a graph that it can never run; None if it is another one.

    Args:
        words: of the error.
        engine: name and release, for the sentence.
        file: name of the ONNX file.
    """
    found = _NOT_REGISTERED.search(words)
    if found is not None:
        return lacking_operators(engine, file, [qualified(found["domain"], found["name"])])
    found = _NO_OPERATOR.search(words)
    if found is not None:
        return lacking_operators(engine, file, [_of_node(words, found["name"])], _opset_of(found))
    found = _NO_KERNEL.search(words)
    if found is not None:
        detail = f"{_opset_of(found)}, for the types that it gets there"
        return lacking_operators(engine, file, [found["name"]], detail)
    found = _NO_OPSET.search(words)
    if found is not None:
        detail = f"the file does not say which opset of {found['domain']} it uses"
        return lacking_operators(engine, file, [_of_node(words, "")], detail)
    found = _OPSET.search(words)
    if found is not None:
        return beyond_opset(engine, file, int(found[1]), int(found[2]))
    found = _IR_VERSION.search(words)
    if found is not None:
        return beyond_ir_version(engine, file, int(found[1]), int(found[2]))
    return None


def openvino_refusal(words: str, engine: str, file: str) -> Optional[UnsupportedGraphError]:
    """The same of OpenVINO's error."""
    operators = [
        _openvino_name(name)
        for found in (_NO_RULE.search(words), _NOT_CONVERTED.search(words))
        if found is not None
        for name in found[1].split(",")
    ]
    operators += _NO_LAYER.findall(words)
    return lacking_operators(engine, file, operators) if operators else None


def _of_node(words: str, name: str) -> str:
    node = _NODE.search(words)
    return name if node is None else qualified(node["domain"], node["name"])


def _opset_of(found: re.Match[str]) -> str:
    return f"of opset {found['opset']}"


def _openvino_name(told: str) -> str:
    domain, _, name = re.sub(r"-\d+$", "", told.strip()).rpartition(".")
    return qualified(domain, name)
