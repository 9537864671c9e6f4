import unicodedata

import numpy as np
import pytest

from tandem import lettering
from tandem.drawing import category_colour, draw_detections
from tandem.lettering import legible, lettered
from tests.unit.tandem.factories import detection


@pytest.fixture
def fonts(monkeypatch):
    """Lets a test say which fonts this machine has, and whether letters can be joined."""

    def forget():
        for cached in (lettered, legible, lettering._file_for):
            cached.cache_clear()

    def have(files=None, shapes=None):
        forget()
        if files is not None:
            monkeypatch.setattr(lettering, "_files", lambda: files)
        if shapes is not None:
            monkeypatch.setattr(lettering, "_shapes", lambda: shapes)

    yield have
    monkeypatch.undo()
    forget()


NAMES = [
    *("Fußgänger", "naïve", "пешеход", "πεζός", "مشاة", "הולך רגל", "行人", "歩行者"),
    *("보행자", "पैदल यात्री", "คนเดินเท้า", "dog 🐶", "Հետիոտն", "ფეხით", "Ördek 行人", "ไทย"),
]


@pytest.mark.parametrize("has_fonts", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_legible(fonts, name, has_fonts):
    fonts(files=None if has_fonts else ())
    shown = legible(name)
    assert shown
    assert "?" not in shown
    for character in shown:
        has_glyph = lettering._file_for(character) is not None
        assert character.isascii() or has_glyph or unicodedata.category(character)[0] == "M"
    letters = lettered(shown, 12)
    assert letters.max() > 200
    assert letters.shape[1] > 4 * len(shown) / 2


def test_letters_that_the_machine_has_stay(fonts):
    if not lettering._files():
        pytest.skip("this machine has no fonts")
    assert legible("Fußgänger пешеход") == "Fußgänger пешеход"


def test_without_fonts_names_are_in_latin_letters(fonts):
    fonts(files=())
    assert legible("Fußgänger") == "Fussganger"
    assert legible("пешеход") == "peshekhod"
    assert legible("行人") == "XingRen"


def test_what_cannot_be_joined_is_in_latin_letters(fonts):
    fonts(shapes=False)
    assert legible("مشاة").isascii()
    assert legible("पैदल").isascii()


def test_joined_letters_are_not_those_side_by_side():
    if not lettering._shapes() or legible("سسس").isascii():
        pytest.skip("this machine cannot join letters")
    assert lettered("سسس", 20).shape[1] < 2.5 * lettered("س", 20).shape[1]


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\nb\tc", "a b c"), ("\u202eevil", "evil"), ("\ue000", ""), ("", ""), ("\ud800x", "x")],
)
def test_what_is_no_letter_is_left_out(name, shown):
    assert legible(name) == shown


@pytest.mark.parametrize("name", ["", "\ue000", "\n"])
def test_without_a_name_the_number_is_shown(name):
    picture = np.zeros((480, 640, 3), np.uint8)
    box = (100, 100, 300, 300)
    numbered = draw_detections(picture, [detection(7, box=box, name="category 7")])
    assert np.array_equal(draw_detections(picture, [detection(7, box=box, name=name)]), numbered)


def test_a_name_is_drawn_as_its_letters_not_as_question_marks():
    picture = np.zeros((480, 640, 3), np.uint8)
    box = (100, 100, 300, 300)
    drawn, marks = (
        draw_detections(picture, [detection(1, box=box, name=name)]) for name in ("行人", "??")
    )
    assert not np.array_equal(drawn, marks)
    ground = (drawn == np.array(category_colour(1))).all(axis=-1)
    assert ground.sum() > 500
