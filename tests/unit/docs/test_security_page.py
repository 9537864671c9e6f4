"""What the pages on security show is what the programs take, and the table is what they enforce."""

import re
import shutil
import subprocess

import pytest
import yaml

from common.security.identity import Identity, Role
from common.security.quotas import QuotaFile
from common.security.tokens import TokenFiles, token_digest
from common.server.authorization import ALLOWED
from tests.harness import ROOT

PAGE = (ROOT / "docs/security.md").read_text()
THREAT_MODEL = (ROOT / "SECURITY.md").read_text()


def example(words):
    """The first YAML on the page that holds these words."""
    shown = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return next(text for text in shown if words in text)


def test_tokens_and_quotas_can_be_used_as_they_stand(tmp_path):
    path, shown = tmp_path / "tokens.yaml", example("sha256:")
    path.write_text(shown)
    # Whoever copies it lets nobody in: the digest on the page is that of random bytes.
    assert all(TokenFiles(path).proof(word) is None for word in ("test", "token", "camera-8"))
    path.write_text(re.sub("[0-9a-f]{64}", token_digest("mine"), shown))
    assert TokenFiles(path).proof("mine").identity == Identity(Role.CLIENT, "camera-8")
    (tmp_path / "quotas.yaml").write_text(example("frames_per_second"))
    quotas = QuotaFile(tmp_path / "quotas.yaml")
    assert quotas.of(Identity(Role.CLIENT, "camera-7")).sessions == 1
    assert quotas.of(Identity(Role.CLIENT, "another")).frames_per_second == 30


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
def test_prometheus_takes_what_the_page_shows(made, tmp_path):
    shown = example("scrape_configs").replace("certificates/", f"{made}/")
    (tmp_path / "prometheus.yml").write_text(shown)
    checked = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr


def test_the_services_of_the_override_are_those_of_compose():
    shown = yaml.safe_load(example("/tls:ro"))["services"]
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert set(shown) <= set(composed)


def test_the_threat_model_has_each_role_that_may_call_something():
    told = set(re.findall(r"^\| (\w+)(?: of a node)? \| ", THREAT_MODEL, re.MULTILINE)) - {"role"}
    allowed = {role.value for roles in ALLOWED.values() for role in roles}
    assert told == allowed
    assert "transformer" not in allowed
    assert len(THREAT_MODEL.split()) < 900
