"""Which encoder fits which language model, and whether the number can be trusted."""

from __future__ import annotations

from encoderlab.alignment.settings import Compare
from encoderlab.web.jobs import JobRunner
from encoderlab.web.tabs.tab import alignment_tab


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    alignment_tab(runner, "alignment", "compare", Compare, lambda result: result["rows"])
