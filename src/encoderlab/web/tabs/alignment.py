"""Which encoder fits which language model, and whether the number can be trusted."""

from __future__ import annotations

from encoderlab.settings.align import Compare
from encoderlab.web.tabs.tab import alignment_tab
from encoderlab.web.work import Workplace


def build(place: Workplace) -> None:
    """Lays the tab out."""
    alignment_tab(
        place, "alignment", "compare", Compare, lambda result: result["rows"], trains=True
    )
