"""Pictures and fields as HTTP clients send them: as a body, or as parts of a form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from common.domain.errors import InvalidInputError

_MOST_FILES, _MOST_FIELDS, _MOST_FIELD_BYTES = 4, 32, 4096
_MOST_DIGITS = 10
_PICTURE = b"image"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Upload:
    """What a client sent.

    Attributes:
        picture: the file's bytes; None: there was none.
        fields: of the form, and behind them those of the query.
    """

    picture: bytes | None
    fields: Mapping[str, str]


class _FormInMemory(MultiPartParser):
    """Keeps files in memory: the door's limit holds for them, and no disk is waited for."""

    spool_max_size = 1 << 40

    def on_headers_finished(self) -> None:
        """A picture is a file, also where a program names none."""
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        if options.get(b"name") == _PICTURE and b"filename" not in options:
            part.content_disposition = (part.content_disposition or b"") + b'; filename="image"'
        super().on_headers_finished()


async def read_upload(request: Request) -> Upload:
    """Read a request: a form with the part `image` (or any other file), or a picture as its body.

    Raises:
        InvalidInputError: the form is malformed, or has too many parts.
    """
    query = _first_of_each(request.query_params.multi_items())
    # Some programs send a picture as application/x-www-form-urlencoded.
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        return Upload(await request.body() or None, query)
    parser = _FormInMemory(
        request.headers,
        request.stream(),
        max_files=_MOST_FILES,
        max_fields=_MOST_FIELDS,
        max_part_size=_MOST_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidInputError(f"the form is malformed: {error.message}") from None
    except KeyError:
        raise InvalidInputError("the form is malformed: it has no boundary") from None
    except ValueError:
        # Of names in a charset that Python knows and cannot decode by.
        raise InvalidInputError("the form is malformed: its charset cannot be used") from None
    try:
        items = form.multi_items()
        files = _first_of_each((name, each) for name, each in items if isinstance(each, UploadFile))
        fields = _first_of_each((name, each) for name, each in items if isinstance(each, str))
        file = files.get("image") or next(iter(files.values()), None)
        picture = None if file is None else await file.read()
    finally:
        await form.close()
    return Upload(picture, {**query, **fields})


def _first_of_each(items: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Of several with one name the first, as DeepStack takes it."""
    found: dict[str, Value] = {}
    for name, value in items:
        found.setdefault(name, value)
    return found


def count_of(text: str) -> int:
    """How many of something a client wants.

    Raises:
        ValueError: it is no whole number, 0 or more.
    """
    if not (text.isascii() and text.isdecimal() and len(text) < _MOST_DIGITS):
        raise ValueError(text)
    return int(text)


def number_of(text: str) -> float:
    """A number that a client wrote.

    Raises:
        ValueError: it is none, or not a finite one.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
