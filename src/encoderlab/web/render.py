"""A result as HTML: paragraphs, tables, figures with their captions, files to download.

Escapes every text of a result.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.flat_table import csv_text
from encoderlab.core.results import Block, Table, shown, to_plain
from encoderlab.web.i18n import inside, label
from encoderlab.web.jobs import Outcome

RESULT, TABLE = "result.json", "result.csv"
SERVED = "gradio_api/file="


def answer(outcome: Outcome) -> str:
    """The result of a job as paragraphs and tables, or why there is none."""
    if outcome.stopped:
        return notice(inside("stopped"))
    if outcome.bug:
        return notice(f"{inside('unexpected')} {html.escape(outcome.bug)}", "alert")
    if outcome.error:
        return notice(html.escape(outcome.error), "alert")
    assert outcome.done is not None
    warnings = [f"! {warning}" for warning in outcome.done.warnings]
    blocks: Sequence[Block] = [*shown(outcome.done.result), *warnings]
    return f"<div class=answer>{''.join(_block(block, outcome) for block in blocks)}</div>"


def _block(block: Block, outcome: Outcome) -> str:
    if isinstance(block, Table):
        return _table(block, outcome)
    paragraphs = ""
    for line in filter(str.strip, map(outcome.plain, block.splitlines())):
        # The terminal marks a warning with ! and a remark with -.
        kind = {"! ": "warning", "- ": "remark"}.get(line[:2], "line")
        text = line if kind == "line" else line[2:]
        paragraphs += f"<p class={kind}>{html.escape(text)}</p>"
    return paragraphs


def _table(table: Table, outcome: Outcome) -> str:
    def escaped(text: str) -> str:
        return html.escape(outcome.plain(text))

    head = "".join(f"<th scope=col>{escaped(column)}</th>" for column in table.columns)
    body = ""
    for first, *others in table.rows:
        cells = "".join(f"<td>{escaped(text)}</td>" for text in others)
        body += f"<tr><th scope=row>{escaped(first)}</th>{cells}</tr>"
    title = escaped(table.title)
    caption = f"<caption>{title}</caption>" if title else ""
    remarks = "".join(f"<p class=said>{escaped(text)}</p>" for text in table.said)
    return (
        f"<div class=scroll tabindex=0 role=region aria-label='{title or 'table'}'><table>{caption}"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{remarks}"
    )


def figures(outcome: Outcome) -> str:
    """The figures of a run with their captions; a click opens one in full size."""
    done = outcome.done
    if done is None or done.folder is None:
        return ""
    return "".join(figure(outcome, record) for record in getattr(done.result, "figures", ()))


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
    caption = html.escape(outcome.plain(record["caption"]))
    return (
        f"<figure class=drawn><a href='{address}' target=_blank>"
        f"<img src='{address}' alt='{caption}'></a>"
        f"<figcaption>{below or caption}</figcaption></figure>"
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
