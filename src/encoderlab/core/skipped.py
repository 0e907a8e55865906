"""Images that cannot be used: how every result lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from encoderlab.core.progress import counted
from encoderlab.errors import one_line

SkippedImages = tuple[tuple[str, str], ...]
SHOWN = 5  # on the terminal; run.json has all


@dataclass(frozen=True)
class Skipped:
    """An item that was left out, and why."""

    id: str
    reason: str


def skipped_images(skipped: Sequence[Skipped]) -> SkippedImages:
    """(id, reason) of each."""
    return tuple((item.id, item.reason) for item in skipped)


def as_records(images: SkippedImages) -> list[dict[str, str]]:
    """Plain values for run.json."""
    return [{"id": name, "reason": reason} for name, reason in images]


def as_text_lines(images: SkippedImages) -> list[str]:
    """Lines for the terminal: how many, and the first few; none without images."""
    if not images:
        return []
    first, *more = [one_line(f"{name}: {reason}") for name, reason in images[:SHOWN]]
    lines = [f"{counted(len(images), 'image')} left out, the first: {first}"]
    lines += (f"  {line}" for line in more)
    if len(images) > SHOWN:
        lines.append(f"  … and {len(images) - SHOWN:,} more in run.json")
    return lines


def as_notes(warnings: Sequence[str], images: SkippedImages) -> list[str]:
    """Lines for the terminal: a result's warnings, then the images that were left out."""
    same = as_warnings(images)
    return [f"! {text}" for text in warnings if text not in same] + as_text_lines(images)


def as_warnings(images: SkippedImages) -> tuple[str, ...]:
    """The warning for run.json; none without images."""
    if not images:
        return ()
    return (f"left out: {counted(len(images), 'image')} that could not be used",)
