"""Keeps secrets, and what would steer a terminal, out of whatever people, logs or peers get to see.

Texts from files, peers and users pass `fit_to_show` once, where they leave: the command's printing,
the renderer of the logs, the sentences that a service ends with, the errors that a peer is told.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Match

MASK = "***"
# Parameters of camera URLs that tell one stream from another and open nothing; the value of any
# other is masked, since every maker has a name of his own for the password.
_HARMLESS = frozenset(
    ("action", "camera", "cam", "channel", "channelno", "fps", "framerate", "height", "profile")
    + ("quality", "resolution", "rotation", "size", "stream", "streamtype", "subtype", "type")
    + ("transport", "unicast", "videocodec", "width")
)
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
# Without the punctuation of the sentence that it stands in. What stands before an @ may be any
# character: people paste passwords as they are.
_URL = re.compile(_SCHEME + r"(?:\S*@)?(?:[^\s\"'<>]*[^\s\"'<>:;,.()])?")
# A password with spaces, as far as it can be told from a sentence about a URL with a port.
_SPACED = re.compile(_SCHEME + r"[^\s:/@\[]*:(?!\d{1,5}(?:[/?#\s\"',;:)]|$))[^\n@]*@")
# `user:password@host` without a scheme.
_BARE = re.compile(r"(?<![\w*@.-])[^\s:@/\"'*]+:(?!//)\S+@(?=[\w\[])")
# `user:password` where the host was forgotten: what stands behind the colon is no port.
_WITHOUT_PLACE = re.compile(r"^([^:/?&;#\[\]]+:)(?!\d{0,5}(?:[/?&;#]|$))[^/?&;#]*")
# A part of a path that is a parameter, with all that follows; a query; a fragment.
_PARAMETERS = re.compile(r"/[^/?&;#=]*=.*|[?&;#].*", re.DOTALL)
_ASSIGNMENT = re.compile(r"[/?&;#][^/?&;#=]*=")
_PARAMETER = re.compile(r"([/?&;#])([^?&;#]*)")
_PLAIN_VALUE = re.compile(r"[\w.:-]*")

_SECRET = (
    r"(?:[\w-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|"
    r"private[_-]?key|credential|authorization|cookie)s?)"
)
# `token=value`, `--token value`, `"token": "value"`, and `token: value` where a line begins.
_ASSIGNED = re.compile(
    r"(?P<name>(?:(?<![\w-])" + _SECRET + r"[\"']?\s*=\s*"
    r"|--" + _SECRET + r"[ =](?!-)"
    r"|(?:^|(?<=[{,\n]))\s*[\"']?" + _SECRET + r"[\"']?\s*:\s+))"
    r"(?P<value>\"[^\"\n]+\"|'[^'\n]+'|(?!\*\*\*)[^\s,;&\"')\]}]*[^\s,;&\"')\]}:.])",
    re.IGNORECASE | re.MULTILINE,
)
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
# A token signed as RFC 7519 has it, wherever it stands.
_SIGNED = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?")
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
# Persian and Hindi are written with them.
_JOINERS = "\u200c\u200d"
# What most texts have none of.
_SUSPICIOUS = re.compile(r"[:@=]|--|bearer|basic|eyJ", re.IGNORECASE)


def masked_url(url: str) -> str:
    """A URL without user, password, and values of parameters that may be secret.

    Credentials need not be escaped as the standard asks: people paste passwords with `@` and `/`.
    So all that stands before the last `@` is taken for them.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    before, at, after = rest.rpartition("@")
    if at and _ASSIGNMENT.search(before):
        # Either a password with these characters, or a parameter with an @.
        return f"{scheme}://{MASK}"
    rest = f"{MASK}@{after}" if at else _WITHOUT_PLACE.sub(rf"\1{MASK}", rest)
    return f"{scheme}://{_PARAMETERS.sub(_masked_parameters, rest)}"


def masked(text: str) -> str:
    """A text without passwords, tokens and keys, in every form that is told from other words."""
    if _SUSPICIOUS.search(text) is None:
        return text
    text = _PRIVATE_KEY.sub(MASK, text)
    text = _SPACED.sub(lambda match: match[0].partition("://")[0] + f"://{MASK}@", text)
    text = _URL.sub(lambda match: masked_url(match[0]), text)
    text = _BARE.sub(f"{MASK}@", text)
    text = _SIGNED.sub(MASK, text)
    text = _BEARER.sub(lambda match: f"{match[1]} {MASK}", text)
    return _ASSIGNED.sub(lambda match: match["name"] + MASK, text)


def escaped(text: str, keep: str = "") -> str:
    r"""A text whose control characters, line ends included, stand as `\x1b`, `\n` or `\u202e`.

    Escape sequences would move a terminal's cursor, rename its window or forge lines of a log;
    Unicode's marks for the direction of writing (BiDi) would show one name as another.

    Args:
        text: from anywhere.
        keep: control characters that stay, such as line ends.
    """
    if text.isprintable() and text.isascii():
        return text
    return "".join(
        character if character in keep or not _steers(character) else _escape(character)
        for character in text
    )


def fit_to_show(text: str, keep: str = "") -> str:
    """A text for a terminal, a log or a peer: `escaped`, and without secrets."""
    return escaped(masked(text), keep)


def masked_value(value: Any) -> Any:
    """The same JSON-like value with each of its texts `masked`; keys are left as they are."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, dict):
        return {key: masked_value(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked_value(each) for each in value]
    return value


def _steers(character: str) -> bool:
    if character in _JOINERS:
        return False
    # Cc: control; Cf: format, BiDi's marks among them; Zl, Zp: line ends; Cs: half a character.
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs")


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _masked_parameters(match: Match[str]) -> str:
    return _PARAMETER.sub(lambda each: each[1] + _masked_parameter(each[2]), match[0])


def _masked_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    is_harmless = name.lower() in _HARMLESS and _PLAIN_VALUE.fullmatch(value)
    if is_harmless or not (value if equals else name):
        return parameter
    return f"{name}={MASK}" if equals else MASK
