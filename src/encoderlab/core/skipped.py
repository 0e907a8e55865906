"""Images that were left out because they cannot be used, as every result tells of them."""

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
    return tuple((one.id, one.reason) for one in skipped)


def as_records(images: SkippedImages) -> list[dict[str, str]]:
    """Plain values for run.json."""
    return [{"id": name, "reason": reason} for name, reason in images]


def as_text_lines(images: SkippedImages) -> list[str]:
    """What the terminal shows: how many, and the first few; nothing if there are none."""
    if not images:
        return []
    first, *more = [one_line(f"{name}: {reason}") for name, reason in images[:SHOWN]]
    lines = [f"{counted(len(images), 'image')} left out, the first: {first}"]
    lines += (f"  {one}" for one in more)
    if len(images) > SHOWN:
        lines.append(f"  … and {len(images) - SHOWN:,} more in run.json")
    return lines


def as_notes(warnings: Sequence[str], images: SkippedImages) -> list[str]:
    """What the terminal shows of a result's warnings, the images that were left out last."""
    same = as_warnings(images)
    return [f"! {one}" for one in warnings if one not in same] + as_text_lines(images)


def as_warnings(images: SkippedImages) -> tuple[str, ...]:
    """The warning that a record keeps."""
    if not images:
        return ()
    return (f"left out: {counted(len(images), 'image')} that could not be used",)
