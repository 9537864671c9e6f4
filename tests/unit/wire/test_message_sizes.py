"""What a call tells of its messages is a number or nothing."""

import pytest

from common.wire.message_sizes import (
    MESSAGE_BYTES_KEY,
    message_bytes_metadata,
    told_message_bytes,
)


@pytest.mark.parametrize("count", [1, 40_000, 1 << 30])
def test_what_is_told_is_read(count):
    assert told_message_bytes([("other", "7"), *message_bytes_metadata(count)]) == count


@pytest.mark.parametrize("value", ["", "-1", "1e3", "٣", "9" * 13, b"12", " 12"])
def test_what_is_no_size_tells_nothing(value):
    assert told_message_bytes([(MESSAGE_BYTES_KEY, value)]) is None


def test_nothing_is_told_before_the_first_frame():
    assert message_bytes_metadata(0) == ()
    assert told_message_bytes([]) is None
