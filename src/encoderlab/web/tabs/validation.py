"""Which metric predicts retrieval through a trained projector."""

from __future__ import annotations

from encoderlab.alignment.settings import E2e
from encoderlab.web.jobs import JobRunner
from encoderlab.web.tabs.tab import alignment_tab


def build(runner: JobRunner) -> None:
    """Builds the components of the tab."""
    alignment_tab(
        runner,
        "validation",
        "e2e",
        E2e,
        lambda result: result["points"],
        trains=True,
        front=("figure", "text"),
    )
