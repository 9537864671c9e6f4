"""Passwords out of whatever people or files get to see."""

from __future__ import annotations

import re

MASK = "***"
# Parameters of camera URLs that tell one stream from another and open nothing; the value of any
# other is masked, since every maker has a name of his own for the password.
_HARMLESS = frozenset(
    ("action", "camera", "cam", "channel", "channelno", "fps", "framerate", "height", "profile")
    + ("quality", "resolution", "rotation", "size", "stream", "streamtype", "subtype", "type")
    + ("transport", "unicast", "videocodec", "width")
)
# Without the punctuation of the sentence that it stands in.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>]*[^\s\"'<>:;,.()]")
# `user:password@host` without a scheme.
_BARE = re.compile(r"(?<![\w*@.-])[^\s:@/\"'*]+:[^\s/\"']+@(?=[\w\[])")
_PARAMETER = re.compile(r"(?P<before>[/?&;#])(?P<name>[A-Za-z][\w.-]*?)=(?P<value>[^&;/#?]*)")
_NAMELESS_QUERY = re.compile(r"\?[^=]+$")


def masked_url(url: str) -> str:
    """A URL without user, password, and values of parameters that may be secret.

    Credentials need not be escaped as the standard asks: people paste passwords with `@` and `/`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority or ":" in authority:
        at = rest.rfind("@")
        rest = MASK + rest[at:] if at >= 0 else rest
    host, slash, path = _split_authority(rest)
    path = _NAMELESS_QUERY.sub(f"?{MASK}", _PARAMETER.sub(_masked_parameter, slash + path))
    return f"{scheme}://{host}{path}"


def masked(text: str) -> str:
    """A text with every URL and every `user:password@host` in it masked."""
    return _BARE.sub(f"{MASK}@", _URL.sub(lambda match: masked_url(match[0]), text))


def _masked_parameter(match: re.Match[str]) -> str:
    name, value = match["name"], match["value"]
    if not value or (name.lower() in _HARMLESS and "=" not in value):
        return match[0]
    return f"{match['before']}{name}={MASK}"


def _split_authority(rest: str) -> tuple[str, str, str]:
    match = re.search(r"[/?#]", rest)
    if match is None:
        return rest, "", ""
    return rest[: match.start()], match[0], rest[match.end() :]
