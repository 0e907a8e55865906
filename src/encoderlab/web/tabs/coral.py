"""CORAL, spectra and EAS, as published and calibrated."""

from __future__ import annotations

from encoderlab.alignment.settings import Coral
from encoderlab.web.jobs import JobRunner
from encoderlab.web.tabs.tab import alignment_tab


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    alignment_tab(
        runner, "coral", "coral", Coral, lambda result: result["cross_modal"], front=("table",)
    )
