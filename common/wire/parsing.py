"""Parsing of what strangers send: its cost is bounded before protobuf makes objects of it.

Protobuf checks no more than that a message is well-formed. A few bytes may stand for a large
object: two make an empty sub-message of some fifty, one an entry of a repeated number. So a request
is walked through once, payloads skipped, and refused if it holds more than any honest one does.
"""

from __future__ import annotations

from typing import Any, Dict, Generic, NamedTuple, Optional, Type, TypeVar

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from common.domain.errors import InvalidInputError

M = TypeVar("M", bound=Message)

MAX_FIELDS = 128
"""Fields of a request, all levels together; the largest that Tandem sends has 15."""
MAX_NAME_CHARACTERS = 64
"""Of a name, an id or a digest in a request of Tandem's own."""
MAX_FOREIGN_NAME_CHARACTERS = 256
"""The same in a request to the health or reflection service."""
MAX_RANK = 8
"""Dimensions of a tensor."""
MAX_ANSWER_BYTES = 1 << 18
"""Of a stage's answer; one with a hundred detections has some six thousand."""

_MAX_PACKED_BYTES = 10 * MAX_RANK
_MAX_DEPTH = 8
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


class _Field(NamedTuple):
    """What is known of a field that has a length: at most one of these is set.

    Attributes:
        fields: of the message that it holds.
        most_characters: of its text; 0 if it is none.
        most_bytes: of its packed numbers; 0 if it holds none.
    """

    fields: Optional[Dict[int, Any]] = None
    most_characters: int = 0
    most_bytes: int = 0


class RequestParser(Generic[M]):
    """Parses requests of one type, each within bounds."""

    def __init__(self, message: Type[M]) -> None:
        """Prepare for messages of this class."""
        self._message = message
        self._fields = _fields_of(message.DESCRIPTOR)

    def parse(self, data: bytes) -> M:
        """The request that these bytes stand for.

        Raises:
            InvalidInputError: they are malformed, or hold too much.
        """
        try:
            _walk(data, 0, len(data), self._fields, 0)
            return self._message.FromString(data)
        except (DecodeError, IndexError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"malformed {self._message.DESCRIPTOR.name}") from error


def parse_answer(message: Type[M], data: bytes) -> M:
    """The answer that these bytes stand for.

    Raises:
        InvalidInputError: they are malformed, or more than `MAX_ANSWER_BYTES`.
    """
    if len(data) > MAX_ANSWER_BYTES:
        raise InvalidInputError(f"an answer of {len(data)} bytes; {MAX_ANSWER_BYTES} is the most")
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise InvalidInputError("a malformed answer") from error


def _fields_of(descriptor: Descriptor, depth: int = 0) -> Dict[int, _Field]:
    """The fields of a message that need a look, by number."""
    is_own = descriptor.full_name.startswith("tandem.")
    most_characters = MAX_NAME_CHARACTERS if is_own else MAX_FOREIGN_NAME_CHARACTERS
    fields: Dict[int, _Field] = {}
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if depth < _MAX_DEPTH:
                fields[field.number] = _Field(fields=_fields_of(field.message_type, depth + 1))
        elif field.type == FieldDescriptor.TYPE_STRING:
            fields[field.number] = _Field(most_characters=most_characters)
        elif field.type != FieldDescriptor.TYPE_BYTES:
            fields[field.number] = _Field(most_bytes=_MAX_PACKED_BYTES)
    return fields


def _walk(data: bytes, position: int, end: int, fields: Dict[int, _Field], seen: int) -> int:
    """Check one message within `data`; returns how many fields were seen, with `seen` before.

    Raises:
        InvalidInputError: it holds too much.
        IndexError: it ends within a field.
        DecodeError: it is malformed otherwise.
        UnicodeDecodeError: a name is not UTF-8.
    """
    while position < end:
        seen += 1
        if seen > MAX_FIELDS:
            raise InvalidInputError(f"a message holds at most {MAX_FIELDS} fields")
        key = data[position]
        position += 1
        if key > 0x7F:
            position -= 1
            stop = _after_varint(data, position)
            key = _varint(data, position, stop)
            position = stop
        kind = key & 7
        if kind == _DELIMITED:
            length = data[position]
            if length > 0x7F:
                stop = _after_varint(data, position)
                length = _varint(data, position, stop)
                position = stop
            else:
                position += 1
            stop = position + length
            if stop > end:
                raise DecodeError("a field is longer than its message")
            field = fields.get(key >> 3)
            if field is not None:
                if field.fields is not None:
                    seen = _walk(data, position, stop, field.fields, seen)
                else:
                    _check_length(data, position, stop, field)
            position = stop
        elif kind == _VARINT:
            position = _after_varint(data, position)
        elif kind == _FIXED64:
            position += 8
        elif kind == _FIXED32:
            position += 4
        else:
            raise DecodeError("groups are not used")
    if position > end:
        raise DecodeError("a message ends within a field")
    return seen


def _check_length(data: bytes, start: int, stop: int, field: _Field) -> None:
    most = field.most_characters
    length = stop - start
    # A character takes up to four bytes.
    if most and length > most and (length > 4 * most or len(data[start:stop].decode()) > most):
        raise InvalidInputError(f"a name or an id is longer than {most} characters")
    if field.most_bytes and length > field.most_bytes:
        raise InvalidInputError(f"a tensor has at most {MAX_RANK} dimensions")


def _after_varint(data: bytes, position: int) -> int:
    """Where the number that begins here ends."""
    most = position + 10
    while data[position] > 0x7F:
        position += 1
        if position >= most:
            raise DecodeError("a number is longer than ten bytes")
    return position + 1


def _varint(data: bytes, start: int, stop: int) -> int:
    value = 0
    for byte in reversed(data[start:stop]):
        value = value << 7 | byte & 0x7F
    return value
