"""Files of tokens: what they may hold, and what is never told of them."""

from base64 import urlsafe_b64encode

import pytest

from common.domain.errors import ConfigurationError
from common.security.tokens import (
    TokenFiles,
    bearer_token,
    new_token,
    token_digest,
)
from tests.authorities import public_pem

from cryptography.hazmat.primitives.asymmetric import ed25519  # isort: skip

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
        # Of a file that nothing was written to: whoever shows no token would have it.
        f"{{identity: client/camera, sha256: {token_digest('')}}}",
        f"{{identity: client/camera, sha256: {DIGEST}}}\n"
        f"- {{identity: operator/ann, sha256: {DIGEST.upper()}}}",
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


def part(data):
    return urlsafe_b64encode(data).decode().rstrip("=")


@pytest.fixture
def signer(tmp_path):
    """Signs what it is given, and the files that know its key."""
    key = ed25519.Ed25519PrivateKey.generate()
    keys = tmp_path / "keys.pem"
    keys.write_bytes(public_pem(key))

    def sign(claims, header='{"alg": "EdDSA"}'):
        signed = f"{part(header.encode())}.{part(claims.encode())}"
        return f"{signed}.{part(key.sign(signed.encode()))}"

    return sign, TokenFiles(None, keys, "tandem")


CLAIMS = '"sub": "spiffe://tandem/client/camera", "aud": "tandem"'


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN", "1e400", "[]", "{}", "null"])
def test_a_time_that_is_none_is_refused(signer, name, value):
    sign, files = signer
    assert files.proof(sign(f'{{{CLAIMS}, "exp": 99999999999}}')) is not None
    assert files.proof(sign(f'{{{CLAIMS}, "exp": 99999999999, "{name}": {value}}}')) is None


def test_an_end_that_no_clock_reaches_is_refused(signer):
    sign, files = signer
    assert files.proof(sign(f'{{{CLAIMS}, "exp": 1{"0" * 400}}}')) is None


@pytest.mark.parametrize("text", ["[" * 3000, '{"a":' * 600], ids=["lists", "objects"])
def test_json_that_nests_too_deeply_is_refused(signer, text):
    sign, files = signer
    assert files.proof(sign(text)) is None
    # Before anybody has signed it.
    assert files.proof(f"{part(text.encode())}.{part(b'{}')}.{part(b'x')}") is None


def test_a_token_that_asks_for_more_than_is_understood_is_refused(signer):
    sign, files = signer
    header = '{"alg": "EdDSA", "crit": ["exp"], "exp": 1}'
    assert files.proof(sign(f'{{{CLAIMS}, "exp": 99999999999}}', header)) is None


def test_files_of_keys_hold_keys(tmp_path):
    keys = tmp_path / "keys.pem"
    keys.write_text("nothing")
    with pytest.raises(ConfigurationError, match="no public key"):
        TokenFiles(None, keys, "tandem")
    whole = public_pem(ed25519.Ed25519PrivateKey.generate())
    keys.write_bytes(whole + whole[:60])
    with pytest.raises(ConfigurationError, match="cut off"):
        TokenFiles(None, keys, "tandem")
    keys.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    with pytest.raises(ConfigurationError, match="malformed"):
        TokenFiles(None, keys, "tandem")
