"""One file per tab: its fields, the settings they make, and what is shown beside the answer.

`web.page` lists our own tabs; this registry holds those of extensions. Imports no Gradio.
"""

from __future__ import annotations

from encoderlab.core import extensions

ADDED: dict[str, str] = {}


def register(name: str, module: str) -> None:
    """Adds a tab to the page.

    Args:
        name: its name; its phrases include `NAME_tab` and `NAME_about`.
        module: imported when the page is built. `WORDS` holds language -> key -> text, and
            `build(runner)` lays the tab out.

    Raises:
        UsageError: the name is taken.
    """
    extensions.add(ADDED, "a tab", name, module)
