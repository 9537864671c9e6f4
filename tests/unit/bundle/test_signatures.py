"""Signed bundles: what holds, and what each kind of forgery is told."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from common.bundle import load_bundle, write_bundle
from common.bundle.signature import sign, write_keys
from common.domain.errors import ConfigurationError
from tests.harness import ROOT, TOY_BUNDLE


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(str(TOY_BUNDLE), str(tmp_path / "bundle")))
    write_keys(tmp_path / "key.pem")
    sign(folder, (folder / "bundle.json").read_bytes(), tmp_path / "key.pem")
    return folder


def public_key(folder: Path) -> Path:
    return folder.parent / "key.pem.pub"


def test_a_signed_bundle_is_as_the_unsigned_one(signed: Path) -> None:
    assert load_bundle(signed, public_key(signed)).digest == load_bundle(TOY_BUNDLE).digest
    assert (signed / "bundle.sig").stat().st_size == 64


def test_only_its_owner_reads_the_private_key(signed: Path) -> None:
    key = signed.parent / "key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with pytest.raises(ConfigurationError, match="exists: a key that is in use would be lost"):
        write_keys(key)
    assert key.read_bytes() == before


def unsigned(folder: Path) -> None:
    (folder / "bundle.sig").unlink()


def changed(folder: Path) -> None:
    with (folder / "bundle.json").open("a") as file:
        file.write("\n")


def calibrated_anew(folder: Path) -> None:
    manifest = load_bundle(folder).manifest
    write_bundle(folder, manifest.model_copy(update={"name": "another"}))


def of_another_key(folder: Path) -> None:
    write_keys(folder.parent / "other.pem")
    sign(folder, (folder / "bundle.json").read_bytes(), folder.parent / "other.pem")


def cut(folder: Path) -> None:
    (folder / "bundle.sig").write_bytes((folder / "bundle.sig").read_bytes()[:63])


def endless(folder: Path) -> None:
    (folder / "bundle.sig").unlink()
    (folder / "bundle.sig").symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (unsigned, "is not signed: bundle.sig is missing"),
        (changed, "bundle.sig is no signature of its bundle.json by the key"),
        (calibrated_anew, "bundle.sig is no signature of its bundle.json by the key"),
        (of_another_key, "bundle.sig is no signature of its bundle.json by the key"),
        (cut, "bundle.sig is no signature of its bundle.json by the key"),
        (endless, "is not signed: bundle.sig is a link out of the bundle's folder"),
    ],
)
def test_forgeries(signed: Path, forge: Callable[[Path], None], message: str) -> None:
    forge(signed)
    with pytest.raises(ConfigurationError, match=message):
        load_bundle(signed, public_key(signed))
    # Nobody asked for a signature: the bundle itself is as good as before.
    load_bundle(signed)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\ngeheim\n-----END PUBLIC KEY-----\n", "is no public key"),
        (b"-----BEGIN PRIVATE KEY-----\ngeheim\n", "is a private key, which only who signs"),
    ],
)
def test_keys_that_are_none(signed: Path, content: bytes, message: str) -> None:
    public_key(signed).write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as told:
        load_bundle(signed, public_key(signed))
    assert "geheim" not in str(told.value)
    public_key(signed).unlink()
    with pytest.raises(ConfigurationError, match="cannot read the key .*: No such file"):
        load_bundle(signed, public_key(signed))


def test_keys_of_another_kind_are_refused(signed: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    public_key(signed).write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(ConfigurationError, match="is no Ed25519 key"):
        load_bundle(signed, public_key(signed))


def test_a_stage_that_asks_for_a_signature_does_not_start_without_one(signed: Path) -> None:
    arguments = ["--node", "edge", "--require-signature", str(public_key(signed)), "--port", "0"]
    run = subprocess.run(
        [sys.executable, "-m", "services.transformer", "--bundle", str(TOY_BUNDLE), *arguments],
        cwd=str(ROOT),
        stderr=subprocess.PIPE,
        timeout=60,
    )
    words = run.stderr.decode()
    assert run.returncode != 0
    assert "is not signed: bundle.sig is missing" in words
    assert "Traceback" not in words
