from pathlib import Path

import pytest
import typer

from common.domain.errors import InvalidInputError
from common.domain.placement import Placement, Stage
from tandem.cli.app import run_command
from tandem.cli.options import (
    PlacementChoice,
    parse_models,
    parse_paced,
    refuse_with_server,
    refuse_without_server,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, {}),
        ("backbone=33", {Stage.BACKBONE: 33.0}),
        ("backbone=33.5, transformer=7", {Stage.BACKBONE: 33.5, Stage.TRANSFORMER: 7.0}),
    ],
)
def test_paced(text, expected):
    assert parse_paced(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "backbone",
        "backbone=",
        "head=3",
        "backbone=-1",
        "backbone=0",
        "backbone=inf",
        "backbone=nan",
        "backbone=1,backbone=2",
        "backbone=1,",
    ],
)
def test_malformed_paces_are_refused(text):
    with pytest.raises(typer.BadParameter):
        parse_paced(text)


def test_options_of_local_nodes_are_refused_beside_a_server():
    refuse_with_server(None, bundle="x")
    refuse_with_server("localhost:1", bundle=None)
    with pytest.raises(typer.BadParameter, match="--bundle sets up local nodes"):
        refuse_with_server("localhost:1", bundle="x")


def test_every_placement_can_be_chosen():
    assert {choice.placement for choice in PlacementChoice} == {None, *Placement}


@pytest.mark.parametrize(
    "command", [["detect", "nowhere.jpg"], ["status"], ["placement"], ["bench"], ["evaluate"]]
)
def test_a_servers_address_is_checked_before_anything_else(command):
    for address in ("h:", "h:0", "http://h:1", ""):
        with pytest.raises(InvalidInputError, match="is not host:port"):
            run_command([*command, "--server", address])


@pytest.mark.parametrize("host", ["", "h:1", "http://h"])
def test_so_is_the_host_that_a_cluster_listens_on(host):
    with pytest.raises(InvalidInputError, match="the host"):
        run_command(["up", "--host", host])


def test_models_by_name():
    assert parse_models(()) == {}
    assert parse_models(["fast=a/b", "small=c=d"]) == {"fast": Path("a/b"), "small": Path("c=d")}
    for texts, words in (
        (["fast"], "'fast' is not NAME=DIR"),
        (["fast="], "'fast=' is not NAME=DIR"),
        (["=a"], "is no model's name"),
        (["default=a"], "is no model's name"),
        (["fast=a", "fast=b"], "the name fast comes twice"),
    ):
        with pytest.raises(typer.BadParameter, match=words):
            parse_models(texts)


def test_only_a_server_has_models_by_name():
    refuse_without_server(None, None)
    refuse_without_server("localhost", "fast")
    with pytest.raises(typer.BadParameter, match="give --server"):
        refuse_without_server(None, "fast")
