"""A result as HTML: paragraphs, tables, figures with their captions, files to download.

Escapes every text of a result.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.flat_table import csv_text
from encoderlab.core.results import Block, Table, shown, to_plain
from encoderlab.web.i18n import inside, label
from encoderlab.web.jobs import Outcome
from encoderlab.web.result_phrases import korean

RESULT, TABLE = "result.json", "result.csv"
SERVED = "gradio_api/file="


def answer(outcome: Outcome, front: Collection[str] = ()) -> tuple[str, str]:
    """The answer of a job as HTML, or the error.

    Args:
        outcome: of the job.
        front: what stands on the first screen besides the paragraphs before the first table and
            all warnings: "table" for the first table, "figure" for the first figure, "text" for
            all paragraphs.

    Returns:
        The HTML of the first screen, and that of the rest: tables, remarks and figures.
    """
    if outcome.stopped:
        return notice(inside("stopped")), ""
    if outcome.bug:
        return notice(f"{inside('unexpected')} {html.escape(outcome.bug)}", "alert"), ""
    if outcome.error:
        return notice(html.escape(outcome.error), "alert"), ""
    assert outcome.done is not None
    warnings = [f"! {warning}" for warning in outcome.done.warnings]
    first, rest = _split([*shown(outcome.done.result), *warnings], front)
    drawn = _figures(outcome)
    ahead = drawn[:1] if "figure" in front else []
    return _answer(first, outcome, ahead), _answer(rest, outcome, drawn[len(ahead) :])


def whole(outcome: Outcome, skipped: int = 0) -> str:
    """All paragraphs, tables and figures of a finished job, without the first `skipped` figures."""
    assert outcome.done is not None
    return _answer(shown(outcome.done.result), outcome, _figures(outcome)[skipped:])


def _answer(blocks: Sequence[Block], outcome: Outcome, drawn: Sequence[str]) -> str:
    text = "".join(_block(block, outcome) for block in blocks)
    return answer_of(outcome, text + "".join(drawn))


def answer_of(outcome: Outcome, content: str) -> str:
    """HTML as the answer of a job, which carries the folder of its run."""
    folder = outcome.done.folder if outcome.done else None
    name = f"{folder.parent.name}/{folder.name}" if folder else ""
    return f"<div class=answer data-run='{name}'>{content}</div>"


def _split(blocks: Sequence[Block], front: Collection[str]) -> tuple[list[Block], list[Block]]:
    """The blocks of the first screen, and the rest, each in their order."""
    first: list[Block] = []
    rest: list[Block] = []
    tables = 0
    for block in blocks:
        if isinstance(block, Table):
            tables += 1
            (first if tables == 1 and "table" in front else rest).append(block)
            continue
        for line in block.splitlines():
            # The terminal marks a warning with ! and a remark with -.
            ahead = "text" in front or not tables
            shown_first = line.startswith("! ") or (ahead and not line.startswith("- "))
            (first if shown_first else rest).append(line)
    return first, rest


def _block(block: Block, outcome: Outcome) -> str:
    if isinstance(block, Table):
        return _table(block, outcome)
    paragraphs = ""
    for line in filter(str.strip, map(outcome.plain, block.splitlines())):
        kind = {"! ": "warning", "- ": "remark"}.get(line[:2], "line")
        paragraphs += f"<p class={kind}>{said(line if kind == 'line' else line[2:])}</p>"
    return paragraphs


def said(text: str) -> str:
    """A text of a result as HTML, with its Korean where there is one, which page.js shows."""
    escaped, translated = html.escape(text), korean(text)
    if translated == text:
        return escaped
    return f"<span data-korean='{html.escape(translated)}'>{escaped}</span>"


def _table(table: Table, outcome: Outcome) -> str:
    def escaped(text: str) -> str:
        return said(outcome.plain(text))

    head = "".join(f"<th scope=col>{escaped(column)}</th>" for column in table.columns)
    body = ""
    for first, *others in table.rows:
        cells = "".join(f"<td>{escaped(text)}</td>" for text in others)
        body += f"<tr><th scope=row>{escaped(first)}</th>{cells}</tr>"
    caption = f"<caption>{escaped(table.title)}</caption>" if table.title else ""
    title = html.escape(outcome.plain(table.title))
    remarks = "".join(f"<p class=said>{escaped(text)}</p>" for text in table.said)
    return (
        f"<div class=scroll tabindex=0 role=region aria-label='{title or 'table'}'><table>{caption}"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{remarks}"
    )


def _figures(outcome: Outcome) -> list[str]:
    """The figures of a run with their captions."""
    done = outcome.done
    if done is None or done.folder is None:
        return []
    return [figure(outcome, record) for record in getattr(done.result, "figures", ())]


def figure(outcome: Outcome, record: Mapping[str, str], below: str = "") -> str:
    """One figure of a run.

    Args:
        outcome: of the run, which has a folder.
        record: the figure's file and caption.
        below: HTML in place of the caption.

    Returns:
        The HTML; a click opens the figure in full size.
    """
    assert outcome.done is not None and outcome.done.folder is not None
    address = _address(outcome.done.folder / record["file"])
    caption = outcome.plain(record["caption"])
    return (
        f"<figure class=drawn><a href='{address}' target=_blank>"
        f"<img src='{address}' alt='{html.escape(caption)}'></a>"
        f"<figcaption>{below or said(caption)}</figcaption></figure>"
    )


def files(outcome: Outcome, records: Sequence[dict[str, Any]]) -> str:
    """Links to the result as JSON, `records` as CSV and every figure, and the command line."""
    done = outcome.done
    if done is None or done.folder is None:
        return ""
    # The visitor's copy names no path of this machine.
    text = json.dumps(to_plain(done.result), ensure_ascii=False, indent=2)
    write_text_atomic(done.folder / RESULT, outcome.plain(text))
    table = outcome.plain(csv_text(to_plain(list(records))))
    # Spreadsheets recognise UTF-8 by the byte order mark.
    write_text_atomic(done.folder / TABLE, "\ufeff" + table)
    names = [RESULT, TABLE, *(figure["file"] for figure in getattr(done.result, "figures", ()))]
    links = "".join(
        f"<a class=file href='{_address(done.folder / name)}' download='{html.escape(name)}'>"
        f"{html.escape(name)}</a>"
        for name in names
    )
    return (
        f"<nav class=files {label('files')}>{inside('files')}{links}</nav>"
        f"<section class=command {label('command')}><h3>{inside('command')}</h3>"
        f"<p>{inside('command_about')}</p><div><pre tabindex=0>{html.escape(outcome.command)}</pre>"
        f"<button type=button data-copy>{inside('copy')}</button></div></section>"
    )


def embedded_page(page: str, title: str) -> str:
    """A whole HTML page in a sandboxed frame; `title` is the key of its name."""
    return (
        f"<iframe class=inner sandbox=allow-scripts {label(title)} "
        f"srcdoc='{html.escape(page)}'></iframe>"
    )


def data_address(image: Image.Image, form: str = "PNG") -> str:
    """A small image as a data URL."""
    content = io.BytesIO()
    image.save(content, form)
    return f"data:image/{form.lower()};base64," + base64.b64encode(content.getvalue()).decode()


def _address(path: Path) -> str:
    return SERVED + quote(str(path.resolve()))


def notice(text: str, kind: str = "status") -> str:
    """One sentence with the ARIA role `kind`: "status" or "alert"."""
    return f"<p class='notice {kind}' role={kind}>{text}</p>"
