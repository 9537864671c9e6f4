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
# A part of a path that is a parameter, with all that follows; a query; a fragment.
_PARAMETERS = re.compile(r"/[^/?&;#=]*=.*|[?&;#].*", re.DOTALL)
_PARAMETER = re.compile(r"([/?&;#])([^?&;#]*)")
_PLAIN_VALUE = re.compile(r"[\w.:-]*")


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
    return f"{scheme}://{_PARAMETERS.sub(_masked_parameters, rest)}"


def masked(text: str) -> str:
    """A text with every URL and every `user:password@host` in it masked."""
    return _BARE.sub(f"{MASK}@", _URL.sub(lambda match: masked_url(match[0]), text))


def _masked_parameters(match: re.Match[str]) -> str:
    return _PARAMETER.sub(lambda each: each[1] + _masked_parameter(each[2]), match[0])


def _masked_parameter(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    is_harmless = name.lower() in _HARMLESS and _PLAIN_VALUE.fullmatch(value)
    if is_harmless or not (value if equals else name):
        return parameter
    return f"{name}={MASK}" if equals else MASK
