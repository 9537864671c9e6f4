"""Turns TensorRT's log into reasons: its calls return None, and only the log says why."""

from __future__ import annotations

import re
from typing import Iterable, List, NamedTuple

_NODE = re.compile(r'[Nn]ode number (\d+) \[(\w+) -> "?([^"\]]*)"?')
_OPERATOR = re.compile(r"(?:No importer registered for op|could not find plugin):? *(\w+)")
# What 8.5 and later say in its place; only the node tells the operator then.
_NO_PLUGIN = re.compile(r"Plugin not found, are the plugin name")
_MEMORY = re.compile(r"out ?of ?memory|insufficient memory|cudaErrorMemoryAllocation", re.I)
_DEVICE = re.compile(r"incompatible device|different (?:GPU|model|device)|expecting compute", re.I)
_VERSION = re.compile(r"not compatible with this version|[Vv]ersion tag does not match")


def build_failure(messages: Iterable[str]) -> str:
    """Say why a build failed, as the end of a sentence."""
    kept = list(messages)
    for text in kept:
        if _MEMORY.search(text):
            return f"out of memory: {text}"
    return _last(kept)


def plan_failure(messages: Iterable[str]) -> str:
    """Say why a plan was refused, as the end of a sentence."""
    kept = list(messages)
    for text in kept:
        if _DEVICE.search(text):
            return f"it was built on another device: {text}"
        if _VERSION.search(text):
            return f"it was built by another release of TensorRT: {text}"
        if _MEMORY.search(text):
            return f"out of memory: {text}"
    return _last(kept)


class ParseFailure(NamedTuple):
    """Why a graph was refused.

    Attributes:
        reason: the end of a sentence.
        operator: that TensorRT does not have; empty if it is something else.
        node: where in the graph; empty if that is not told.
    """

    reason: str
    operator: str = ""
    node: str = ""


def parse_failure(descriptions: Iterable[str], messages: Iterable[str]) -> ParseFailure:
    """Say why a graph was refused, with the operator and its node where these are named.

    Args:
        descriptions: the parser's errors.
        messages: TensorRT's log.
    """
    described, logged = list(descriptions), list(messages)
    everything = described + logged
    operator = next((match.group(1) for match in map(_OPERATOR.search, everything) if match), "")
    node = next((match for match in map(_NODE.search, everything) if match), None)
    reason = described[0] if described else _last(logged)
    if node is None:
        return ParseFailure(reason, operator)
    number, name, output = node.groups()
    if any(_NO_PLUGIN.search(text) for text in everything):
        operator = operator or name
    where = f"node {number}, {name} to {output}"
    return ParseFailure(f"{reason} ({where})", operator, where)


def _last(messages: List[str]) -> str:
    return messages[-1] if messages else "TensorRT gave no reason"
