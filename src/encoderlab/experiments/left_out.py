"""Images that were left out because they cannot be used, as every result tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from encoderlab.errors import in_one_line

if TYPE_CHECKING:
    from encoderlab.data.sample import Skipped

LeftOut = tuple[tuple[str, str], ...]
SHOWN = 5  # on the terminal; run.json has all


def left_out(skipped: Sequence[Skipped]) -> LeftOut:
    """(id, reason) of each."""
    return tuple((one.id, one.reason) for one in skipped)


def as_records(images: LeftOut) -> list[dict[str, str]]:
    """Plain values for run.json."""
    return [{"id": name, "reason": reason} for name, reason in images]


def as_lines(images: LeftOut) -> list[str]:
    """What the terminal shows: how many, and the first few; nothing if there are none."""
    if not images:
        return []
    first, *more = [in_one_line(f"{name}: {reason}") for name, reason in images[:SHOWN]]
    lines = [f"{len(images):,} images left out, the first: {first}", *(f"  {one}" for one in more)]
    if len(images) > SHOWN:
        lines.append(f"  … and {len(images) - SHOWN:,} more in run.json")
    return lines


def as_remarks(warnings: Sequence[str], images: LeftOut) -> list[str]:
    """What the terminal shows of a result's warnings, the images that were left out last."""
    counted = as_warnings(images)
    return [f"! {one}" for one in warnings if one not in counted] + as_lines(images)


def as_warnings(images: LeftOut) -> tuple[str, ...]:
    """The warning that a record keeps."""
    if not images:
        return ()
    return (f"{len(images):,} images could not be used and are left out",)
