"""Names of classes, and labels of images that match none of them.

Knows texts only; `class_key` decides which names are equal.
"""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from encoderlab.core.progress import counted
from encoderlab.errors import UsageError, did_you_mean, is_utf8

LISTED = 5


def class_key(name: str) -> str:
    r"""The normal form of a class name (Unicode's canonical caseless matching).

    Args:
        name: any case, with white space around it.

    Returns:
        The name in NFC, stripped and case folded.

    >>> class_key(" Red ") == class_key("red"), class_key("E\u0301te") == class_key("\xe9te")
    (True, True)
    """
    folded = unicodedata.normalize("NFD", name.strip()).casefold()
    return unicodedata.normalize("NFC", folded)


def class_names(classes: str | Sequence[str]) -> list[str]:
    """The names of classes, stripped and in Unicode NFC.

    Args:
        classes: a sequence, or "cat,dog,car", in which double quotes enclose a name with a comma.

    Returns:
        The names, in order.

    Raises:
        UsageError: a name is blank or not UTF-8, two have the same `class_key`, or there are
            fewer than two.
    """
    parts = _comma_separated(classes) if isinstance(classes, str) else classes
    names = [unicodedata.normalize("NFC", name).strip() for name in parts]
    if not all(names):
        raise UsageError(
            "a class name is blank",
            got=classes if isinstance(classes, str) else ",".join(classes),
            want="names with commas between them, none empty",
        )
    if not all(map(is_utf8, names)):
        raise UsageError("a class name is not UTF-8", got=",".join(names), want="text in UTF-8")
    first: dict[str, str] = {}
    for name in names:
        key = class_key(name)
        if key in first:
            raise UsageError(
                "a class is listed twice",
                got=name if first[key] == name else f"{first[key]} and {name}",
                want="each class once; names that differ by case only are the same",
            )
        first[key] = name
    if len(names) < 2:
        raise UsageError(
            "classification needs two classes", got=",".join(names), want="at least two classes"
        )
    return names


def class_numbers(names: Sequence[str]) -> dict[str, int]:
    """The numbers of classes by `class_key`.

    Args:
        names: of the classes, in order.

    Returns:
        `class_key` of each name -> its position in `names`.
    """
    return {class_key(name): number for number, name in enumerate(names)}


def count_strays(labels: Iterable[str | None], names: Sequence[str]) -> dict[str, int]:
    """The labels that match no class; those with the same `class_key` are counted together.

    Args:
        labels: one per image, or None.
        names: of the classes.

    Returns:
        label -> number of images, most frequent first.
    """
    known = class_numbers(names)
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for label in labels:
        if label is not None and class_key(label) not in known:
            counts[first.setdefault(class_key(label), label)] += 1
    return dict(counts.most_common())


def stray_sentences(strays: Mapping[str, int], names: Sequence[str]) -> list[str]:
    """The counts of `count_strays` as sentences.

    Args:
        strays: from `count_strays`.
        names: of the classes.

    Returns:
        A sentence for each of the first LISTED labels, with the class that it resembles, and
        one for the rest.
    """
    known = class_numbers(names)
    sentences = []
    for label, images in list(strays.items())[:LISTED]:
        near = did_you_mean(class_key(label), known)
        subject = counted(images, "image")
        verb = "is" if images == 1 else "are"
        question = "" if near is None else f": did you mean {names[known[near]]!r}?"
        sentences.append(f"{subject} of label {label!r} {verb} in none of the classes{question}")
    rest = list(strays.values())[LISTED:]
    if rest:
        sentences.append(
            f"nor are {counted(sum(rest), 'image')} of {counted(len(rest), 'other label')}"
        )
    return sentences


def _comma_separated(text: str) -> list[str]:
    try:
        return next(csv.reader([" ".join(text.splitlines())], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UsageError(
            "the class names cannot be read",
            got=text,
            want='names with commas between them, such as cat,"dog, asleep",car',
        ) from error
