"""One file per tab: its fields, which settings they make, and what is shown beside the answer.

Those of our own are in `web.page`; here are the ones that others add. Knows no Gradio.
"""

from __future__ import annotations

from encoderlab.core import extensions

ADDED: dict[str, str] = {}


def register(name: str, module: str) -> None:
    """Adds a tab to the page.

    Args:
        name: its name; `NAME_tab` and `NAME_about` are among its words.
        module: imported when the page is built. `WORDS` holds language -> key -> text, and
            `build(place)` lays the tab out.

    Raises:
        UsageError: the name is taken.
    """
    extensions.add(ADDED, "a tab", name, module)
