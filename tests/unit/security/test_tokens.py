"""Files of tokens: what they may hold, and what is never told of them."""

import pytest

from common.domain.errors import ConfigurationError
from common.security.tokens import (
    TokenFiles,
    bearer_token,
    new_token,
    token_digest,
)

TOKEN = "a-token"
DIGEST = token_digest(TOKEN)
SECRET = "correct-horse"


def files_with(tmp_path, text):
    path = tmp_path / "tokens.yaml"
    path.write_text(text)
    return TokenFiles(path)


def test_a_token_is_known_by_its_hash(tmp_path):
    text = f"tokens:\n- {{identity: client/camera, sha256: {DIGEST.upper()}}}\n"
    files = files_with(tmp_path, text)
    assert str(files.proof(TOKEN).identity) == "client/camera"
    assert files.proof(DIGEST) is files.proof("") is files.proof(TOKEN + "x") is None
    assert files.proof("\ud800") is None


@pytest.mark.parametrize(
    "entry",
    [
        f"{{identity: client/camera, token: {SECRET}}}",
        f"{{identity: client/camera, sha256: {SECRET}}}",
        f"{{identity: orchestrator/main, sha256: {DIGEST}}}",
        f"{{identity: camera, sha256: {DIGEST}}}",
        f"{{identity: client/camera, sha256: {DIGEST}, expires: soon}}",
        f"{{identity: client/camera, sha256: {DIGEST}, password: {SECRET}}}",
        f"[{SECRET}",
        SECRET,
        # What the parser raises of these is no error of YAML.
        f"{SECRET}: 2026-02-30",
        f"{SECRET}: {'[' * 5000}",
    ],
)
def test_what_is_wrong_is_refused_without_a_word_of_it(tmp_path, entry):
    with pytest.raises(ConfigurationError) as caught:
        files_with(tmp_path, f"tokens:\n- {entry}\n")
    assert "tokens.yaml" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_call_has_one_token_or_none():
    assert bearer_token([("authorization", "Bearer abc")]) == "abc"
    assert bearer_token([("Authorization", "bearer abc")]) == "abc"
    assert bearer_token([("x", "y")]) == ""
    assert bearer_token([("authorization", "Basic abc")]) == ""
    assert bearer_token([("authorization", "Bearer a"), ("authorization", "Bearer b")]) == ""
    assert bearer_token([("authorization", "Bearer " + "a" * 5000)]) == ""


def test_new_tokens_cannot_be_guessed():
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) >= 43


def test_files_of_keys_hold_keys(tmp_path):
    keys = tmp_path / "keys.pem"
    keys.write_text("nothing")
    with pytest.raises(ConfigurationError, match="no public key"):
        TokenFiles(None, keys, "tandem")
    keys.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(ConfigurationError, match="malformed"):
        TokenFiles(None, keys, "tandem")
