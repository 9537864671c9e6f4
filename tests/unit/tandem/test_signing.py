"""`tandem model keygen`, `sign`, `verify`, and what `--require-signature` refuses."""

import json
import shutil

import pytest

from common.domain.errors import ConfigurationError
from tandem import LocalDetector
from tandem.cli.app import run_command
from tandem.cluster import ClusterOptions, LocalCluster
from tests.harness import TOY_BUNDLE


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(TOY_BUNDLE, tmp_path / "bundle")


def test_from_a_key_to_a_verified_bundle(tmp_path, bundle, capsys, monkeypatch):
    key, public = str(tmp_path / "key.pem"), str(tmp_path / "key.pem.pub")
    assert run_command(["model", "keygen", key]) == 0
    assert run_command(["model", "sign", str(bundle), "--key", key]) == 0
    capsys.readouterr()
    assert run_command(["model", "verify", str(bundle), "--key", public, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["key"] == public
    LocalDetector(bundle, require_signature=public).close()
    monkeypatch.setenv("TANDEM_REQUIRE_SIGNATURE", public)
    LocalDetector(bundle).close()
    (bundle / "backbone.onnx").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"backbone\.onnx has sha256"):
        run_command(["model", "verify", str(bundle), "--key", public])
    with pytest.raises(ConfigurationError, match=r"backbone\.onnx has sha256"):
        run_command(["model", "sign", str(bundle), "--key", key])


async def test_an_unsigned_bundle_is_refused_everywhere(tmp_path, bundle, monkeypatch):
    key, public = str(tmp_path / "key.pem"), tmp_path / "key.pem.pub"
    run_command(["model", "keygen", key])
    unsigned = "is not signed: bundle.sig is missing"
    with pytest.raises(ConfigurationError, match=unsigned):
        run_command(["model", "verify", str(bundle), "--key", str(public)])
    with pytest.raises(ConfigurationError, match=unsigned):
        LocalDetector(bundle, require_signature=public)
    with pytest.raises(ConfigurationError, match=unsigned):
        async with LocalCluster(ClusterOptions(bundle, require_signature=public)):
            pass
    monkeypatch.setenv("TANDEM_REQUIRE_SIGNATURE", str(public))
    with pytest.raises(ConfigurationError, match=unsigned):
        LocalDetector(bundle)
    with pytest.raises(ConfigurationError, match=unsigned):
        async with LocalCluster(ClusterOptions(bundle)):
            pass


@pytest.mark.parametrize("command", [["up"], ["detect", "docs/images/demo.jpg"]])
def test_the_commands_refuse_it_too(tmp_path, bundle, command):
    run_command(["model", "keygen", str(tmp_path / "key.pem")])
    options = ["--bundle", str(bundle), "--require-signature", str(tmp_path / "key.pem.pub")]
    with pytest.raises(ConfigurationError, match="is not signed"):
        run_command([*command, *options])
