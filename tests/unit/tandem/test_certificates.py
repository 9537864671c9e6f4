"""`tandem certificates`, as people and scripts run it."""

import json

import pytest

from common.certificates.authority import Authority, certificate_to_pem
from tandem.cli.app import run_command
from tandem.cli.running import exit_code_of


@pytest.fixture
def tandem(capsys):
    """Runs the command; its exit code, standard output and error."""

    def run(*arguments):
        code = exit_code_of(lambda: run_command(["certificates", *map(str, arguments)]), "tandem")
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture
def folder(tandem, tmp_path):
    folder = tmp_path / "made"
    code, told, _ = tandem("init", folder, "--host", "edge=192.168.1.20", "--days", "40")
    assert code == 0
    assert f"scp -r {folder}/edge 192.168.1.20:certificates" in told
    return folder


def test_two_commands_make_a_pair_of_machines(tandem, folder):
    code, told, _ = tandem("show", folder / "edge", "--json")
    edge = {each["path"]: each for each in json.loads(told)}
    backbone = edge[str(folder / "edge/backbone.crt")]
    assert code == 0
    assert backbone["identity"] == "spiffe://tandem/backbone/edge"
    assert "192.168.1.20" in backbone["hosts"]
    assert len(backbone["fingerprint"]) == 64
    assert not any("workstation" in each["identity"] for each in edge.values())
    assert not [each for each in edge.values() if each["warnings"]]


def test_a_second_init_is_refused_and_renew_finds_nothing_due(tandem, folder):
    code, told, error = tandem("init", folder)
    assert (code, told) == (1, "")
    assert error.startswith(f"tandem: {folder} holds an authority already")
    code, told, _ = tandem("init", folder, "--renew")
    assert (code, told.splitlines()[0]) == (0, "nothing is due")


def test_what_expires_soon_is_warned_of_and_renewed(tandem, folder):
    code, told, _ = tandem("issue", folder, "--role", "client", "--name", "alice", "--days", "29")
    assert (code, told.startswith("issued spiffe://tandem/client/alice, valid until ")) == (0, True)
    code, told, warned = tandem("show", folder)
    assert code == 0
    assert "  identity  spiffe://tandem/client/alice" in told.splitlines()
    assert warned == f"tandem: {folder}/alice/client.crt: expires in 28 days\n"
    _, told, _ = tandem(
        "issue", folder, "--role", "client", "--name", "alice", "--days", "60", "--json"
    )
    assert json.loads(told)["warnings"] == []


def test_no_output_holds_a_key(tandem, folder):
    keys = [path.read_text().splitlines()[1] for path in folder.rglob("*.key")]
    shown = tandem("show", folder)[1] + tandem("show", folder, "--json")[1]
    shown += tandem("show", folder / "edge" / "backbone.key")[2]
    assert "is a private key" in shown
    assert not [key for key in keys if key in shown]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--role", "root", "--node", "edge"), "'root'"),
        (("--role", "client", "--name", "../x"), "cannot be a holder's name"),
        (("--role", "client", "--name", "a", "--host", "b"), "nobody connects to a client"),
        (("--role", "backbone", "--node", "edge", "--host", "b:1"), "'b:1' is no host"),
    ],
)
def test_wrong_wishes_are_sentences(tandem, folder, arguments, sentence):
    code, _, error = tandem("issue", folder, *arguments)
    assert code != 0
    assert sentence in error
    assert error.count("\n") == 1


def test_a_foreign_certificate_cannot_steer_the_terminal(tandem, folder, foreign):
    code, told, _ = tandem("show", foreign("\x1b]0;owned\x07"))
    assert code == 0
    assert "\x1b" not in told
    assert "\\x1b]0;owned" in told


@pytest.fixture
def foreign(tmp_path):
    """A certificate of another authority, with this common name."""

    def make(name):
        path = tmp_path / "foreign.pem"
        path.write_bytes(certificate_to_pem(Authority.create(name).certificate))
        return path

    return make
