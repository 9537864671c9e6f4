"""URLs of cameras and streams: what of them can be seen to be wrong before anybody connects."""

from __future__ import annotations

import ipaddress
import re

from common.domain.errors import InvalidInputError

# FFmpeg knows more of them, which name files, or several sources at once.
SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "srt", "tcp", "udp", "rtp")
# Those by which a machine may listen itself, so that no host has to be named.
_LISTENING = frozenset(("udp", "rtp", "tcp", "srt"))
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# A scheme of ours that lacks a slash, and what is an address but no path.
_HALF_A_SCHEME = re.compile(rf"(?:{'|'.join(SCHEMES)}):/?(?!/)", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:[^/\s]*@)?\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?(?:/.*)?")
# As FFmpeg cuts it: what stands before an @ may be any character but these.
_AUTHORITY = re.compile(r"[^/?#]*")
_PLACE = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>.*))?")
_NAME = re.compile(r"[^\W_](?:[\w-]*\w)?(?:\.[^\W_](?:[\w-]*\w)?)*\.?")


def scheme_of(text: str) -> str | None:
    """The scheme of a URL, in small letters; None for what is none, such as a path."""
    found = _SCHEME.match(text)
    return None if found is None else found[1].lower()


def refuse_malformed(text: str) -> None:
    """Make sure that somebody may be reached by a URL, and that a path is not meant as one.

    Raises:
        InvalidInputError: nobody can; the sentence shows nothing of the text, which may hold a
            password, but what cannot be one.
    """
    scheme = scheme_of(text)
    if scheme is None:
        if _HALF_A_SCHEME.match(text):
            raise InvalidInputError("behind its scheme a URL has ://")
        if _ADDRESS.fullmatch(text):
            raise InvalidInputError("an address needs a scheme before it, such as rtsp://")
        return
    if scheme == "file":
        return
    if scheme not in SCHEMES:
        raise InvalidInputError(
            f"{scheme}:// is no kind of URL that can be read; known: {', '.join(SCHEMES)}"
        )
    if not text.isprintable():
        raise InvalidInputError("a URL has no control characters")
    authority = _AUTHORITY.match(text, len(scheme) + 3)
    place = _PLACE.fullmatch("" if authority is None else authority[0].rpartition("@")[2])
    if place is None:
        raise InvalidInputError("a URL's host is a name or an address, of IPv6 in [brackets]")
    _check_port(place["port"])
    _check_host(place["host"], scheme)


def _check_port(port: str | None) -> None:
    if port is None:
        return
    is_number = port.isascii() and port.isdecimal() and len(port) <= 5
    if not is_number or not 0 < int(port) < 65_536:
        raise InvalidInputError(
            "a URL's port is a number from 1 to 65535; in a password, / ? and # are written %2F, "
            "%3F and %23"
        )


def _check_host(host: str, scheme: str) -> None:
    if not host:
        if scheme in _LISTENING:
            return
        raise InvalidInputError("a URL names a host behind ://")
    is_v6 = host.startswith("[")
    try:
        if is_v6:
            ipaddress.IPv6Address(host[1:-1].replace("%25", "%"))
            return
        if host.replace(".", "").isdecimal():
            ipaddress.IPv4Address(host)
            return
    except ValueError:
        kind = "IPv6" if is_v6 else "IPv4"
        raise InvalidInputError(f"a URL's host is no address of {kind}") from None
    if not _NAME.fullmatch(host):
        raise InvalidInputError("a URL's host is no name: it has letters, digits, - and dots")
