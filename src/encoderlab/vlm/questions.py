"""Reads questions about images: the synthetic world, chat-format JSONL, CSV, and shards.

Decodes no image, knows no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoderlab.core.json_text import parsed
from encoderlab.core.skipped import Skipped
from encoderlab.data.chat import parts_of
from encoderlab.data.csv_table import (
    IMAGE,
    check_some_exist,
    image_path,
    image_root,
    rows_of,
    tidy_name,
)
from encoderlab.data.sample import Sample, distinct
from encoderlab.data.shards import check_exist, read_shard, shards_of
from encoderlab.data.synthetic import generate
from encoderlab.data.synthetic.item import check_languages
from encoderlab.errors import MissingError, UsageError

SYNTHETIC = "synthetic"
QUESTION, ANSWER, OPTIONS = "question", "answer", "options"
CAPTION_REQUESTS = {"en": "What does the picture show?", "ko": "그림에 무엇이 있습니까?"}
FIELDS = (QUESTION, ANSWER, OPTIONS, "kind", "split", "messages")  # of a record in a shard
WANT = (
    "synthetic, a chat-format JSONL, a CSV with image_path,question,answer, or shards with "
    "question and answer or with messages"
)


@dataclass(frozen=True)
class Question:
    """A question about one image.

    Args:
        id: stable name within its data set.
        image: the sample with the image.
        text: the question.
        answers: the right answers, one per annotator; the first is the one to train on.
        kind: groups questions in a report; None where the data has no kinds.
        options: answers to choose from, in multiple choice.
    """

    id: str
    image: Sample
    text: str
    answers: tuple[str, ...]
    kind: str | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Questions:
    """Questions in order, and the skipped records of the source with the reason."""

    rows: list[Question]
    skipped: list[Skipped]


def read_questions(
    source: str | Path,
    img_root: str | Path | None = None,
    *,
    split: str | None = None,
    n: int = 0,
    languages: Sequence[str] = ("en",),
) -> Questions:
    """The questions of a source.

    Args:
        source: "synthetic"; a chat-format JSONL, in which each user turn with the assistant's turn
            after it is a question; or a CSV with image_path, question, answer, and optionally kind
            and options (separated by |), where rows of one image and question are the answers of
            several annotators; or shards with the same fields beside the image, `answer` being one
            or a list, or with chat records in `messages`.
        img_root: the folder that image paths start from.
        split: "train" or "test" of the synthetic world; elsewhere only rows of this `split`, and
            all rows where None.
        n: how many images of the synthetic world; elsewhere the first n questions, 0 for all.
        languages: of the synthetic world, "en" and "ko": one question per language and image.

    Returns:
        The questions, and the rows that cannot be used.

    Raises:
        MissingError: no such file, or none of its images.
        UsageError: a row without question or answer, two images in one record, or no question.
    """
    if str(source) == SYNTHETIC:
        if n < 1:
            raise UsageError(
                "the synthetic world needs a number of images", got=f"{n} images", want="a number"
            )
        return Questions(synthetic_questions(split or "train", range(n), languages), [])
    path = Path(source)
    shards = shards_of(source)
    if not shards and not path.is_file():
        raise MissingError("no such questions", got=str(source), want=WANT)
    if shards:
        questions = _read_shards(shards, split)
    elif path.suffix.lower() in (".csv", ".tsv"):
        questions = _read_csv(path, img_root, split)
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        questions = _read_chat(path, img_root, split)
    else:
        raise UsageError("unknown kind of questions", got=str(source), want=WANT)
    if not questions.rows:
        of_split = f" of the split {split!r}" if split else ""
        raise UsageError(f"there is no question{of_split}", got=str(source), want=WANT)
    return Questions(questions.rows[: n or None], questions.skipped)


def synthetic_questions(
    split: str, indices: Iterable[int], languages: Sequence[str]
) -> list[Question]:
    """The questions about synthetic images.

    Args:
        split: "train" or "test".
        indices: numbers of the images.
        languages: "en" and "ko": one question per language and image.

    Returns:
        The questions; `kind` is the kind of image, with " (Korean)" for Korean.

    Raises:
        UsageError: an unknown split or language.
    """
    check_languages(languages)
    rows = []
    for index in indices:
        item = generate(index, split=split)
        image = Sample(item.id, item.image, label=item.label)
        if "en" in languages:
            rows.append(Question(f"{item.id}/en", image, item.question, (item.answer,), item.label))
        if "ko" in languages:
            kind = f"{item.label} (Korean)"
            rows.append(Question(f"{item.id}/ko", image, item.question_ko, (item.answer_ko,), kind))
    return rows


def captions_as_questions(indices: Iterable[int], languages: Sequence[str]) -> list[Question]:
    """A request for the complete caption of synthetic training images, in each language."""
    check_languages(languages)
    rows = []
    for index in indices:
        item = generate(index)
        image = Sample(item.id, item.image, label=item.label)
        rows += [
            Question(f"{item.id}/{language}/caption", image, CAPTION_REQUESTS[language],
                     (item.captions_in(language)[0],), "caption")
            for language in languages
        ]  # fmt: skip
    return rows


def _read_csv(table: Path, img_root: str | Path | None, split: str | None) -> Questions:
    by_question: dict[tuple[str, str], list[dict[str, str]]] = {}
    for line, row in rows_of(table, (IMAGE, QUESTION, ANSWER)):
        if split is not None and row.get("split", split) != split:
            continue
        for column in (IMAGE, QUESTION, ANSWER):
            if not row[column]:
                raise UsageError(
                    f"line {line} of {table} has no {column}", want=f"a {column} in every row"
                )
        by_question.setdefault((tidy_name(row[IMAGE]), row[QUESTION]), []).append(row)
    root = image_root(table, [name for name, _ in by_question], img_root)
    images = {name: Sample(name, image_path(root, name, str(table))) for name, _ in by_question}
    check_some_exist(list(images.values()), root, "--img-root")
    rows: list[Question] = []
    for (name, text), same in by_question.items():
        options = tuple(part.strip() for part in same[0].get(OPTIONS, "").split("|") if part)
        answers = tuple(row[ANSWER] for row in same)
        kind = same[0].get("kind") or None
        rows.append(Question(f"{name}/{len(rows)}", images[name], text, answers, kind, options))
    return Questions(rows, [])


def _read_chat(file: Path, img_root: str | Path | None, split: str | None) -> Questions:
    turns: list[tuple[str, str, str, tuple[str, ...], dict[str, Any]]] = []
    skipped: list[Skipped] = []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(
            "the questions cannot be read", got=f"{file}: {error}", want="JSON lines in UTF-8"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number} of {file}"
        try:
            record = parsed(line)
            if split is not None and record.get("split", split) != split:
                continue
            messages = _messages(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{where} is no chat record",
                got=line.strip()[:60],
                want='{"messages": [{"role": "user", "content": [...]}, ...]}',
            ) from error
        name = _only_image(messages, where)
        for turn, (text, answers) in enumerate(_turns(messages)):
            id_ = f"{file.stem}/{record.get('id', number)}/{turn}"
            if text and answers:
                turns.append((id_, name, text, answers, record))
            else:
                missing = "question" if not text else "answer"
                skipped.append(Skipped(id_, f"it has no {missing}"))
    root = image_root(file, [name for _, name, *_ in turns], img_root)
    images = {name: Sample(name, image_path(root, name, str(file))) for _, name, *_ in turns}
    check_some_exist(list(images.values()), root, "the image folder")
    rows = [
        Question(
            id_, images[name], text, answers, record.get("kind"), tuple(record.get(OPTIONS) or ())
        )
        for id_, name, text, answers, record in turns
    ]
    return Questions(rows, skipped)


def _read_shards(shards: Sequence[str], split: str | None) -> Questions:
    check_exist(shards)
    rows: list[Question] = []
    skipped: list[Skipped] = []
    for shard in shards:
        samples = read_shard(shard, FIELDS)
        skipped += samples.skipped
        for sample in samples:
            record = sample.fields
            if split is not None and (record.get("split") or split) != split:
                continue
            turns = _turns_of(record, sample.id)
            for turn, (text, answers) in enumerate(turns):
                id_ = sample.id if len(turns) == 1 else f"{sample.id}/{turn}"
                if not text or not answers:
                    skipped.append(Skipped(id_, f"it has no {ANSWER if text else QUESTION}"))
                    continue
                options = tuple(record.get(OPTIONS) or ())
                rows.append(Question(id_, sample, text, answers, record.get("kind"), options))
    return Questions(rows, skipped)


def _turns_of(record: Mapping[str, Any], where: str) -> list[tuple[str, tuple[str, ...]]]:
    """The questions and answers of a record in a shard."""
    if record.get("messages") is not None:
        try:
            return _turns(_messages(record))
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{where} is no chat record", want='[{"role": "user", "content": ...}, ...]'
            ) from error
    answer = record.get(ANSWER)
    answers = answer if isinstance(answer, list) else [answer]
    return [(
        str(record.get(QUESTION) or "").strip(),
        distinct(str(one).strip() for one in answers if one is not None and str(one).strip()),
    )]  # fmt: skip


def _messages(record: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """(role, parts) of each message of a chat record."""
    return [(message["role"], parts_of(message["content"])) for message in record["messages"]]


def _only_image(messages: Sequence[tuple[str, list[dict[str, Any]]]], where: str) -> str:
    names = distinct(
        part["image"] for _, parts in messages for part in parts
        if part.get("type") == "image" and isinstance(part.get("image"), str)
    )  # fmt: skip
    if len(names) != 1:
        raise UsageError(
            f"{where} has {len(names) or 'no'} images", got=", ".join(names) or None,
            want='one image per record: {"type": "image", "image": "chart/example.png"}',
        )  # fmt: skip
    return tidy_name(names[0])


def _turns(
    messages: Sequence[tuple[str, list[dict[str, Any]]]],
) -> list[tuple[str, tuple[str, ...]]]:
    """(question, answers) of each user turn; the texts of one assistant turn are its answers."""
    turns: list[tuple[str, tuple[str, ...]]] = []
    for role, parts in messages:
        texts = [str(part["text"]) for part in parts if part.get("type") == "text"]
        if role == "user":
            turns.append((" ".join(texts).strip(), ()))
        elif role == "assistant" and turns:
            turns[-1] = (turns[-1][0], distinct(texts))
    return turns
