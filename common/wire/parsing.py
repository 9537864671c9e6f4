"""Parsing of what strangers send: its cost is bounded before protobuf makes objects of it.

Protobuf checks no more than that a message is well-formed. A few bytes may stand for a large
object: two make an empty sub-message of some fifty, one an entry of a repeated number. So a request
is walked through once, payloads skipped, and refused if it holds more than any honest one does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Dict, Generic, NamedTuple, Optional, Tuple, Type, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from common.domain.errors import InvalidInputError

M = TypeVar("M", bound=Message)

MAX_FIELDS = 128
"""Fields of a request, at any depth; the features of a cut of three tensors take 23."""
MAX_NAME_CHARACTERS = 64
"""Of a name, an id or a digest in a request of Tandem's own."""
MAX_FOREIGN_NAME_CHARACTERS = 256
"""The same in a request to the health or reflection service."""
MAX_RANK = 8
"""Dimensions of a tensor."""
MAX_ANSWER_BYTES = 1 << 18
"""Of a stage's answer; one with a hundred detections has some six thousand."""

_TRACEPARENT = "traceparent"
_MAX_PACKED_BYTES = 10 * MAX_RANK
_MAX_DEPTH = 8
_VARINT, _DELIMITED = 0, 2
_FIXED_BYTES = {1: 8, 5: 4}


class _Field(NamedTuple):
    """What is known of a field that has a length: at most one of these is set.

    Attributes:
        fields: of the message that it holds.
        most_characters: of its text; 0 if it is none.
        most_bytes: of its packed numbers; 0 if it holds none.
        name: of the field that holds packed numbers.
    """

    fields: Optional[Dict[int, Any]] = None
    most_characters: int = 0
    most_bytes: int = 0
    name: str = ""


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


@lru_cache(maxsize=None)
def parser_of(message: Type[M]) -> RequestParser[M]:
    """The parser of this class of requests; of each there is one."""
    return RequestParser(message)


def parse_answer(message: Type[M], data: bytes) -> M:
    """The answer that these bytes stand for.

    Raises:
        InvalidInputError: they are malformed, or more than `MAX_ANSWER_BYTES`.
    """
    if len(data) > MAX_ANSWER_BYTES:
        raise InvalidInputError(
            f"an answer has at most {MAX_ANSWER_BYTES} bytes, this one has {len(data)}"
        )
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise InvalidInputError("an answer is malformed") from error


def _fields_of(descriptor: Any, depth: int = 0) -> Dict[int, _Field]:
    """The fields of a message that need a look, by number."""
    is_own = descriptor.full_name.startswith("tandem.")
    most_characters = MAX_NAME_CHARACTERS if is_own else MAX_FOREIGN_NAME_CHARACTERS
    fields: Dict[int, _Field] = {}
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if depth < _MAX_DEPTH:
                fields[field.number] = _Field(fields=_fields_of(field.message_type, depth + 1))
        elif field.name == _TRACEPARENT:
            # One that is wrong costs a frame its trace, never its stream.
            continue
        elif field.type == FieldDescriptor.TYPE_STRING:
            fields[field.number] = _Field(most_characters=most_characters)
        elif field.type != FieldDescriptor.TYPE_BYTES:
            fields[field.number] = _Field(most_bytes=_MAX_PACKED_BYTES, name=field.name)
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
        key, position = _varint(data, position)
        kind = key & 7
        if kind == _DELIMITED:
            length, position = _varint(data, position)
            stop = position + length
            field = fields.get(key >> 3)
            if stop > end:
                raise DecodeError("a field is longer than its message")
            if field is not None and field.fields is not None:
                seen = _walk(data, position, stop, field.fields, seen)
            elif field is not None:
                _check_length(data, position, stop, field)
            position = stop
        elif kind == _VARINT:
            _, position = _varint(data, position)
        elif kind in _FIXED_BYTES:
            position += _FIXED_BYTES[kind]
        else:
            raise DecodeError("the message uses protobuf groups, which Tandem does not")
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
        if field.name == "shape":
            raise InvalidInputError(f"a tensor has at most {MAX_RANK} dimensions")
        raise InvalidInputError(f"{field.name} holds too many numbers; send them as bytes")


def _varint(data: bytes, position: int) -> Tuple[int, int]:
    """The number that begins at `position`, and where it ends."""
    value = data[position]
    if value < 0x80:
        return value, position + 1
    value &= 0x7F
    for index in range(1, 10):
        byte = data[position + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    raise DecodeError("a number is longer than ten bytes")
