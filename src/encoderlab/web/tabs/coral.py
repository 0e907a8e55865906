"""CORAL, spectra and EAS, as published and calibrated."""

from __future__ import annotations

from encoderlab.settings.align import Coral
from encoderlab.web.tabs.tab import alignment_tab
from encoderlab.web.work import Workplace


def build(place: Workplace) -> None:
    """Lays the tab out."""
    alignment_tab(place, "coral", "coral", Coral, lambda result: result["cross_modal"])
