"""The token of an operator who has a browser and no certificate, made with the certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from common.domain.errors import ConfigurationError
from common.files import replace_bytes
from common.security.tokens import new_token, token_digest

OPERATOR_TOKEN = Path("operator/operator.token")
"""The token itself, in the folder of an authority: for the operator alone."""
TOKENS_FILE = "tokens.yaml"
"""Its hash, in the folder of each node whose services are to accept it."""

_SECRET_FILE = 0o600


def set_up_operator_token(folder: Path, node: str) -> Optional[Path]:
    """Make a token for `operator/operator`, unless there is one; returns its file if it is new.

    Args:
        folder: of an authority that has issued to the operator and to the node.
        node: whose services are to accept it.

    Raises:
        ConfigurationError: the file of tokens is somebody's own.
        OSError: a file cannot be written.
    """
    token_file, accepted = folder / OPERATOR_TOKEN, folder / node / TOKENS_FILE
    if token_file.exists() and accepted.exists():
        return None
    if accepted.exists() and not token_file.exists():
        raise ConfigurationError(f"{accepted} is there without {token_file}: remove it first")
    present = token_file.read_text().strip() if token_file.exists() else ""
    token = present or new_token()
    entry = f"  - identity: operator/operator\n    sha256: {token_digest(token)}\n"
    replace_bytes(token_file, token.encode(), _SECRET_FILE)
    replace_bytes(accepted, f"tokens:\n{entry}".encode())
    return token_file
