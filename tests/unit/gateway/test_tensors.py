"""Tensors of the Open Inference Protocol, coded and checked."""

import struct

import numpy as np
import pytest

from common.domain.detections import Box, Detection
from common.domain.errors import InvalidInputError
from common.domain.frames import EncodedImage, PixelFormat, RawImage
from services.gateway.open_inference.tensors import (
    MAX_PICTURES,
    OUTPUTS,
    InputTensor,
    bytes_of_data,
    bytes_to_data,
    check_outputs,
    chosen,
    outputs_of,
    pictures_of,
)


def encoded(shape, data):
    return InputTensor("image", "BYTES", shape, data)


def raw(shape, data):
    return InputTensor("pixels", "UINT8", shape, data)


def detection(number):
    box = Box(number, number + 0.5, number + 1, number + 1.5)
    return Detection(number, f"kind {number} é", 1 / (number + 1), box)


@pytest.mark.parametrize("elements", [[], [b""], [b"a"], [b"\xff\xd8", b"", b"x" * 300]])
def test_elements_come_back_as_they_were(elements):
    data = bytes_to_data(elements)
    assert bytes_of_data(data, len(elements)) == elements
    expected = b"".join(struct.pack("<I", len(each)) + each for each in elements)
    assert data == expected


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x01", "within the length"),
        (b"\x05\0\0\0ab", "within an element"),
        (b"\xff\xff\xff\xffab", "within an element"),
        (b"\x01\0\0\0a\x01\0\0\0b\x01\0\0\0c", "more than 2 elements"),
        (b"\0\0\0\0" * 3, "more than 2 elements"),
    ],
)
def test_lengths_that_make_no_sense(data, words):
    with pytest.raises(InvalidInputError, match=words):
        bytes_of_data(data, 2)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
@pytest.mark.parametrize("data", [bytes_to_data([b"one", b"two"]), [b"one", b"two"]])
def test_files_are_pictures(shape, data):
    assert pictures_of([encoded(shape, data)]) == [EncodedImage(b"one"), EncodedImage(b"two")]


def test_pixels_are_pictures():
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    several = pictures_of([raw((2, 4, 5, 3), pixels.tobytes())])
    assert several == [RawImage(5, 4, PixelFormat.RGB8, each.tobytes()) for each in pixels]
    assert pictures_of([raw((4, 5, 3), pixels[1].tobytes())]) == several[1:]
    grey = pictures_of([raw((4, 5, 1), bytes(20))])
    assert grey == [RawImage(5, 4, PixelFormat.GRAY8, bytes(20))]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "has 0 inputs"),
        ([encoded((1,), [b"a"]), raw((1, 1, 3), b"abc")], "has 2 inputs"),
        ([encoded((1,), [b"a"]), encoded((1,), [b"a"])], "has 2 inputs"),
        ([InputTensor("picture", "BYTES", (1,), [b"a"])], "unexpected input 'picture'"),
        ([InputTensor("image", "UINT8", (1,), b"a")], "has to be BYTES"),
        ([InputTensor("pixels", "FP32", (1, 1, 3), b"abc")], "has to be UINT8"),
        ([encoded((), [])], r"has to be \[N\]"),
        ([encoded((0,), [])], "1 or more"),
        ([encoded((-1,), [b"a"])], "1 or more"),
        ([encoded((1, 2), [b"a", b"b"])], r"has to be \[N\]"),
        ([encoded((2,), [b"a"])], "holds 1 elements"),
        ([encoded((1,), b"")], "holds 0 elements"),
        ([encoded((1,), bytes_to_data([b"a", b"b"]))], "more than 1 elements"),
        ([encoded((MAX_PICTURES + 1,), [b"a"] * (MAX_PICTURES + 1))], "at most 64"),
        ([encoded((1 << 62,), b"")], "at most 64"),
        ([raw((4, 5), bytes(20))], r"\[H,W,3\]"),
        ([raw((4, 5, 4), bytes(80))], r"\[H,W,3\]"),
        ([raw((1, 1, 4, 5, 3), bytes(60))], r"\[H,W,3\]"),
        ([raw((4, 5, 3), bytes(59))], "holds 59 bytes, not 60"),
        ([raw((4, 0, 3), b"")], "1 or more"),
        ([raw((1 << 40, 1 << 40, 3), b"a")], "holds 1 bytes, not"),
        ([raw((MAX_PICTURES + 1, 1, 1, 3), bytes(195))], "at most 64"),
        ([raw((4, 5, 3), [bytes(60)])], "holds 1 bytes"),
    ],
)
def test_what_is_no_picture(inputs, words):
    with pytest.raises(InvalidInputError, match=words):
        pictures_of(inputs)


def test_detections_of_several_pictures_stand_one_after_another():
    outputs = {
        each.description.name: each
        for each in outputs_of([[detection(0), detection(1)], [], [detection(2)]])
    }
    assert list(outputs) == [each.name for each in OUTPUTS]
    assert outputs["counts"].values.tolist() == [2, 0, 1]
    assert outputs["boxes"].values.tolist() == [[n, n + 0.5, n + 1, n + 1.5] for n in range(3)]
    assert outputs["class_ids"].values.tolist() == [0, 1, 2]
    assert np.frombuffer(outputs["scores"].data, "<f4").tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    labels = bytes_of_data(outputs["labels"].data, 3)
    assert [each.decode() for each in labels] == [f"kind {n} é" for n in range(3)]


def test_nothing_found_has_shapes_too():
    shapes = {each.description.name: each.values.shape for each in outputs_of([[]])}
    assert shapes == {
        "boxes": (0, 4),
        "scores": (0,),
        "class_ids": (0,),
        "labels": (0,),
        "counts": (1,),
    }
    assert all(each.data == b"" for each in outputs_of([[]])[:4])


def test_outputs_come_as_they_are_asked_for():
    outputs = outputs_of([[detection(0)]])
    assert chosen(outputs, []) == outputs
    assert [each.description.name for each in chosen(outputs, ["labels", "boxes"])] == [
        "labels",
        "boxes",
    ]
    check_outputs(["labels", "boxes"])
    for names, words in ((["masks"], "unexpected output 'masks'"), (["boxes"] * 2, "twice")):
        with pytest.raises(InvalidInputError, match=words):
            check_outputs(names)
