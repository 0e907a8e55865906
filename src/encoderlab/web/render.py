"""A result as HTML: paragraphs, tables, figures with their captions, files to download.

Everything that comes from a result is escaped. Decides nothing: it shows what the result says.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.flat_table import csv_text
from encoderlab.core.results import Block, Table
from encoderlab.core.run_folder import to_plain
from encoderlab.web.i18n import inside, label
from encoderlab.web.jobs import Outcome

RESULT, TABLE = "result.json", "result.csv"
SERVED = "gradio_api/file="


def answer(outcome: Outcome) -> str:
    """What a job says: its result in words and tables, or why there is none."""
    if outcome.stopped:
        return notice(inside("stopped"))
    if outcome.bug:
        return notice(f"{inside('unexpected')} {html.escape(outcome.bug)}", "alert")
    if outcome.error:
        return notice(html.escape(outcome.error), "alert")
    assert outcome.done is not None
    warnings = [f"! {one}" for one in outcome.done.warnings]
    blocks: Sequence[Block] = [*outcome.done.result.blocks(), *warnings]
    return f"<div class=answer>{''.join(block(one, outcome) for one in blocks)}</div>"


def block(one: Block, outcome: Outcome) -> str:
    """A paragraph, or a table."""
    if isinstance(one, Table):
        return _table(one, outcome)
    lines = [outcome.plain(line) for line in one.splitlines()]
    return "".join(_line(line) for line in lines if line.strip())


def _line(line: str) -> str:
    """A line; what the terminal marks with ! or - is a warning or a remark."""
    kind = {"! ": "warning", "- ": "remark"}.get(line[:2], "line")
    return f"<p class={kind}>{html.escape(line if kind == 'line' else line[2:])}</p>"


def _table(table: Table, outcome: Outcome) -> str:
    def cell(text: str, kind: str) -> str:
        shown = html.escape(outcome.plain(text))
        return f"<{kind}>{shown}</{kind.split()[0]}>"

    head = "".join(cell(one, "th scope=col") for one in table.columns)
    body = "".join(
        "<tr>"
        + "".join(cell(one, "td" if i else "th scope=row") for i, one in enumerate(row))
        + "</tr>"
        for row in table.rows
    )
    caption = f"<caption>{html.escape(outcome.plain(table.title))}</caption>" if table.title else ""
    said = "".join(f"<p class=said>{html.escape(outcome.plain(one))}</p>" for one in table.said)
    name = html.escape(outcome.plain(table.title) or "table")
    return (
        f"<div class=scroll tabindex=0 role=region aria-label='{name}'><table>{caption}"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{said}"
    )


def figures(outcome: Outcome) -> str:
    """The figures of a run, each with what it shows; a click opens one in its full size."""
    done = outcome.done
    if done is None or done.folder is None:
        return ""
    return "".join(
        f"<figure class=drawn><a href='{_address(done.folder / one['file'])}' target=_blank>"
        f"<img src='{_address(done.folder / one['file'])}' alt='{_words(one, outcome)}'></a>"
        f"<figcaption>{_words(one, outcome)}</figcaption></figure>"
        for one in getattr(done.result, "figures", ())
    )


def files(outcome: Outcome, records: Sequence[dict[str, Any]]) -> str:
    """Links to the result as JSON, its rows as CSV, every figure as PNG; and the command line that
    gives the same."""
    done = outcome.done
    if done is None or done.folder is None:
        return ""
    # What the run's folder records has paths of this machine: the visitor's copy has none.
    text = json.dumps(to_plain(done.result.to_json()), ensure_ascii=False, indent=2)
    write_text_atomic(done.folder / RESULT, outcome.plain(text))
    # A mark at the start, or spreadsheets take Korean for another encoding.
    write_text_atomic(
        done.folder / TABLE, "\ufeff" + outcome.plain(csv_text(to_plain(list(records))))
    )
    names = [RESULT, TABLE, *(one["file"] for one in getattr(done.result, "figures", ()))]
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
    """A whole page of ours inside this one, kept apart from it; `title` is a key of the words."""
    return (
        f"<iframe class=inner sandbox=allow-scripts {label(title)} "
        f"srcdoc='{html.escape(page)}'></iframe>"
    )


def data_address(image: Image.Image, form: str = "PNG") -> str:
    """A small image inside the page's own text."""
    content = io.BytesIO()
    image.save(content, form)
    return f"data:image/{form.lower()};base64," + base64.b64encode(content.getvalue()).decode()


def _address(path: Path) -> str:
    return SERVED + quote(str(path.resolve()))


def _words(one: dict[str, str], outcome: Outcome) -> str:
    return html.escape(outcome.plain(one["caption"]))


def notice(text: str, kind: str = "status") -> str:
    """One sentence: how it stands, or what is wrong (`alert`)."""
    return f"<p class='notice {kind}' role={kind}>{text}</p>"
