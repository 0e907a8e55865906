"""Which class names are the same, and what is said of labels that are none of them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoderlab.data.class_names import (
    LISTED,
    class_key,
    class_names,
    count_strays,
    stray_sentences,
)
from encoderlab.errors import UsageError


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Red", "red"),
        (" red\u3000", "red"),
        (unicodedata.normalize("NFD", "빨강"), "빨강"),
        (unicodedata.normalize("NFD", "ÉTÉ"), "été"),
        ("Straße", "STRASSE"),
        ("ΣΙΓΜΑΣ", "σιγμας"),
    ],
)
def test_case_edges_and_unicode_form_make_no_other_class(first, second):
    assert class_key(first) == class_key(second)
    with pytest.raises(UsageError, match="a class is listed twice") as raised:
        class_names([first, "other", second])
    for name in (first, second):
        assert unicodedata.normalize("NFC", name).strip() in str(raised.value)


@pytest.mark.parametrize(
    ("first", "second"), [("red", "ｒｅｄ"), ("red car", "redcar"), ("e", "é")]
)
def test_other_words_stay_other_classes(first, second):
    assert class_names([first, second]) == [first, second]


@given(st.text())
def test_the_key_of_a_name_is_that_of_each_of_its_unicode_forms(name):
    assert class_key(unicodedata.normalize("NFD", name)) == class_key(name)
    assert class_key(unicodedata.normalize("NFC", name)) == class_key(name)


@pytest.mark.parametrize(
    ("given_text", "names"),
    [
        ("cat, dog ,car", ["cat", "dog", "car"]),
        ('cat,"dog, asleep"', ["cat", "dog, asleep"]),
        ("it's,that's", ["it's", "that's"]),
        ('5" screen,tv', ['5" screen', "tv"]),
        ("cat,\ndog\n", ["cat", "dog"]),
        (unicodedata.normalize("NFD", "빨강,파랑"), ["빨강", "파랑"]),
    ],
)
def test_names_with_commas_and_quotes(given_text, names):
    assert class_names(given_text) == names


@pytest.mark.parametrize(
    "given_text", ["cat", "cat,", '"",cat', 'cat,"dog', "", ["cat", "cat"], "cat,\udce9"]
)
def test_what_is_no_list_of_classes_is_refused(given_text):
    with pytest.raises(UsageError):
        class_names(given_text)


def test_labels_without_a_class_are_counted_and_compared_with_the_classes():
    labels = ["red", "Red2", " red2", None, "sky", "Blue"]
    strays = count_strays(labels, ["red", "blue"])
    assert strays == {"Red2": 2, "sky": 1}
    first, second = stray_sentences(strays, ["red", "blue"])
    assert first == "2 images of label 'Red2' are in none of the classes: did you mean 'red'?"
    assert second == "1 image of label 'sky' is in none of the classes"
    many = {f"label {i}": 2 for i in range(LISTED + 3)}
    assert len(stray_sentences(many, ["red", "blue"])) == LISTED + 1
