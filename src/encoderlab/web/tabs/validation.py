"""Which metric predicts retrieval through a trained projector."""

from __future__ import annotations

from encoderlab.settings.align import E2e
from encoderlab.web.tabs.tab import alignment_tab
from encoderlab.web.work import Workplace


def build(place: Workplace) -> None:
    """Lays the tab out."""
    alignment_tab(place, "validation", "e2e", E2e, lambda result: result["points"], trains=True)
