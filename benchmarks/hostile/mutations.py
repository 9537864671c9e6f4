"""Honest bytes, messages and pictures made dishonest, reproducibly from a seed."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.attacks import delimited
from tests.poison import PNG_MAGIC

_MOST_EDITS = 4
_MOST_INSERTED_BYTES = 64
_INTERESTING_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xC0, 0xFE, 0xFF)
_INTEGERS = (0, 1, 2, 7, 64, 65, 99, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_LONG_INTEGERS = (*_INTEGERS, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
_FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1.5, 1e-45, 3e38, -3e38, float("inf"), float("nan"))
_TEXTS = (
    *("", "edge", "workstation", "nowhere", " ", "a" * 64, "a" * 65, "n" * 5000, "ä" * 64),
    *("\0", "line\nline", "\x1b[31m", '"}{', "../../etc/passwd", "{stage}", "%s%n", "\u202e", "☃"),
)
_UNSIGNED = frozenset(
    {
        *(FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32),
        *(FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64),
    }
)
_LONG = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})


class Mutator:
    """Draws mutations; the same seed draws the same.

    Attributes:
        random: what is drawn with.
    """

    def __init__(self, seed: int) -> None:
        """Draw from this seed."""
        self.random = random.Random(seed)

    def noise(self, most_bytes: int) -> bytes:
        """Random bytes, any number of them up to a bound."""
        return self.random.randbytes(self.random.randint(0, most_bytes))

    def edited(self, data: bytes) -> bytes:
        """Bytes with a few random edits: flipped, cut, repeated, put in or left out."""
        edits: tuple[Callable[[bytearray, int], None], ...] = (
            *(self._flip, self._overwrite, self._cut, self._repeat),
            *(self._insert, self._leave_out, self._blank),
        )
        changed = bytearray(data)
        for _ in range(self.random.randint(1, _MOST_EDITS)):
            if changed:
                # Headers, which stand at the beginning, are worth more.
                end = min(len(changed), 64) if self.random.random() < 0.4 else len(changed)
                self.random.choice(edits)(changed, self.random.randrange(end))
        return bytes(changed)

    def picture(self, data: bytes) -> bytes:
        """A file of a picture, edited; a PNG's checksums may fit again, so that libpng reads on."""
        changed = self.edited(data)
        if changed.startswith(PNG_MAGIC) and self.random.random() < 0.7:
            changed = with_checksums(changed)
        return changed

    def wire(self, data: bytes) -> bytes:
        """The bytes of a message as no protobuf library would write them."""
        number = self.random.randint(0, 20)
        forms: tuple[Callable[[], bytes], ...] = (
            lambda: self.edited(data),
            lambda: data[: self.random.randint(0, len(data))],
            lambda: self.noise(200),
            # Another wire type for the first field.
            lambda: bytes([(data[0] if data else 8) & ~7 | self.random.randrange(8)]) + data[1:],
            # A length far beyond the end, one of ten bytes, and a number that never ends.
            lambda: bytes([number << 3 | 2]) + b"\xff\xff\xff\xff\x07" + data,
            lambda: bytes([number << 3 | 2]) + b"\xff" * 9 + b"\x01" + data,
            lambda: data + bytes([number << 3]) + b"\xff" * self.random.randint(1, 30),
            lambda: data + b"".join(delimited(15, b"later") for _ in range(number * 10)),
            lambda: nested(2, self.random.choice((5, 99, 101, 2000))),
            # Groups, open and closed.
            lambda: data + bytes([number << 3 | 3]) * self.random.randint(1, 300),
            lambda: data + bytes([number << 3 | 4]),
            lambda: b"\x12\x00" * self.random.choice((2, 100, 200, 5000)),
            lambda: data * 2,
            lambda: b"",
        )
        return self.random.choice(forms)()

    def fields(self, message: Message) -> None:
        """Set a few fields, at any depth, to values at or beyond the edge of what is allowed."""
        for _ in range(self.random.randint(1, _MOST_EDITS)):
            self._set_one(message)

    def _set_one(self, message: Message) -> None:
        fields: list[Any] = list(message.DESCRIPTOR.fields)
        if not fields:
            return
        field = self.random.choice(fields)
        if field.type == FieldDescriptor.TYPE_MESSAGE and field.is_repeated:
            self._set_messages(getattr(message, field.name))
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            self._set_one(getattr(message, field.name))
        elif field.is_repeated:
            values = getattr(message, field.name)
            values.extend(self._value(field) for _ in range(self.random.randint(0, 8)))
            if self.random.random() < 0.5:
                del values[self.random.randint(0, len(values)) :]
        else:
            setattr(message, field.name, self._value(field))

    def _set_messages(self, messages: Any) -> None:
        """Add some, empty or mutated, take some away, or mutate one."""
        kind = self.random.random()
        if kind < 0.4:
            for _ in range(self.random.randint(1, 8)):
                self._set_one(messages.add())
        elif kind < 0.6:
            del messages[self.random.randint(0, len(messages)) :]
        elif messages:
            self._set_one(self.random.choice(messages))

    def _value(self, field: Any) -> Any:
        if field.type == FieldDescriptor.TYPE_BOOL:
            return self.random.random() < 0.5
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.noise(300)
        if field.type == FieldDescriptor.TYPE_STRING:
            return self.random.choice(_TEXTS)
        if field.type == FieldDescriptor.TYPE_ENUM:
            return self.random.choice((*range(10), 99, 2**31 - 1, -1))
        if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            return self.random.choice(_FLOATS)
        is_long, is_unsigned = field.cpp_type in _LONG, field.type in _UNSIGNED
        value = self.random.choice(_LONG_INTEGERS if is_long else _INTEGERS)
        if is_unsigned:
            return value
        # The largest of a signed type is one bit less.
        value = min(value, 2**63 - 1 if is_long else 2**31 - 1)
        return self.random.choice((value, -value, -value - 1))

    def _flip(self, data: bytearray, at: int) -> None:
        data[at] ^= 1 << self.random.randrange(8)

    def _overwrite(self, data: bytearray, at: int) -> None:
        data[at] = self.random.choice((*_INTERESTING_BYTES, self.random.randrange(256)))

    def _cut(self, data: bytearray, at: int) -> None:
        del data[at:]

    def _repeat(self, data: bytearray, at: int) -> None:
        part = data[at : at + self.random.randint(1, _MOST_INSERTED_BYTES)]
        data[at:at] = part * self.random.choice((1, 2, 20))

    def _insert(self, data: bytearray, at: int) -> None:
        data[at:at] = self.noise(_MOST_INSERTED_BYTES)

    def _leave_out(self, data: bytearray, at: int) -> None:
        del data[at : at + self.random.randint(1, _MOST_INSERTED_BYTES)]

    def _blank(self, data: bytearray, at: int) -> None:
        count = min(self.random.randint(1, 16), len(data) - at)
        data[at : at + count] = bytes([self.random.choice(_INTERESTING_BYTES)]) * count


def nested(number: int, depth: int) -> bytes:
    """A message within a message, so many times."""
    data = b""
    for _ in range(depth):
        data = delimited(number, data)
    return data


def with_checksums(data: bytes) -> bytes:
    """A PNG with its chunks' checksums computed anew, as far as its chunks can be followed."""
    changed, position = bytearray(data), len(PNG_MAGIC)
    while position + 12 <= len(changed):
        (length,) = struct.unpack_from(">I", changed, position)
        end = position + 8 + length
        if end + 4 > len(changed):
            break
        struct.pack_into(">I", changed, end, zlib.crc32(changed[position + 4 : end]))
        position = end + 4
    return bytes(changed)
