"""`encoderlab search`: the images of an index nearest to a sentence or an image.

Checks the query and reports; `image_index` searches.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, ClassVar

from encoderlab.core.atomic_io import write_text_atomic
from encoderlab.core.progress import collect_warnings, counted
from encoderlab.core.results import Block, Result, Table, as_text, shown
from encoderlab.core.spec import takes
from encoderlab.data.unrelated import UNRELATED_SHARE
from encoderlab.errors import UsageError
from encoderlab.retrieval.settings import Search

if TYPE_CHECKING:
    from encoderlab.retrieval.approximate import Approximate
    from encoderlab.retrieval.image_index import Hit

WIDEST = 48  # longer file names lose their beginning in the table


@dataclass(frozen=True)
class SearchResult(Result):
    """The nearest images.

    Args:
        hits: best first.
        html: file of the gallery page.
        images: number of images in the index.
        approximate: the approximate index, where it was used.
        unindexed: images that the approximate index does not contain yet.
        where: the SQL condition.
        k: number of images asked for.
        unrelated_as_near: share of unrelated sentences that reach the cosine of the first hit with
            their nearest image; None where it is not known: for an image, a condition, or an index
            that was not measured.
        unrelated_as_distinct: the same of z, a cosine's distance from the mean of the unrelated
            sentences with the same image, in standard deviations.
    """

    records: ClassVar = "hits"

    query: str
    db: str
    model: str
    fingerprint: str
    device: str
    dtype: str
    hits: tuple[Hit, ...]
    html: str | None = None
    images: int = 0
    approximate: Approximate | None = None
    unindexed: int = 0
    where: str | None = None
    k: int = 0
    unrelated_as_near: float | None = None
    unrelated_as_distinct: float | None = None
    warnings: tuple[str, ...] = field(default=(), metadata={"json": False})

    def blocks(self) -> list[Block]:
        """The table of the hits, and how they were found."""
        heading = f"{self.query!r} in {self.db}"
        if not self.images:
            return [
                f"{heading}\nthe index has no images; add some: encoderlab index YOUR_IMAGES --db "
                f"{quote(self.db)}"
            ]
        if not self.hits:
            return [f"{heading}\nnothing fits the condition"]
        rows: list[tuple[str, ...]] = []
        for rank, hit in enumerate(self.hits, start=1):
            # With its folder: cameras number the photos of each folder from 1.
            name = "/".join(Path(hit.path).parts[-2:])
            name = name if len(name) <= WIDEST else "…" + name[1 - WIDEST :]
            rows.append((str(rank), f"{hit.score:.3f}", name, hit.caption))
        columns: tuple[str, ...] = ("place", "cosine", "file", "caption")
        if not any(hit.caption for hit in self.hits):
            columns, rows = columns[:3], [row[:3] for row in rows]
        notes = list(self.warnings)
        if self.fits_nothing:
            near, distinct = self.unrelated_as_near, self.unrelated_as_distinct
            notes.append(
                f"best cosine {self.hits[0].score:.3f}: typical of unrelated pairs ({near:.0%} of "
                "unrelated sentences reach it with their nearest image; beside the other sentences "
                f"with the same image, {distinct:.0%} stand out as much); perhaps no image fits"
            )
        if len(self.hits) < self.k:
            which = "fit the condition" if self.where else "in the index"
            notes.append(f"{self.k:,} asked, {len(self.hits):,} {which}")
        if self.approximate is not None:
            newer = f"; {self.unindexed:,} newer images were all compared" * bool(self.unindexed)
            unfiltered = ", without a condition" if self.where else ""
            notes.append(
                f"approximate search: {self.approximate.description()}{unfiltered}{newer}; "
                f"--exact compares with all {self.images:,}"
            )
        return [Table(columns, tuple(rows), heading, tuple(notes))]

    @property
    def fits_nothing(self) -> bool:
        """Whether unrelated sentences reach as much as the query, by cosine and by z."""
        shares = (self.unrelated_as_near, self.unrelated_as_distinct)
        return all(share is not None and share > UNRELATED_SHARE for share in shares)

    def to_text(self) -> str:
        """The blocks, and the file of the gallery."""
        gallery = [f"gallery: {self.html}"] if self.html else []
        return as_text([*shown(self), *gallery])


@takes(Search)
def run(settings: Search, out: Path | None = None) -> SearchResult:
    """The k images of the index at `db` that are nearest to a sentence or to an image.

    Returns:
        The hits, nearest first, each with its cosine in [-1, 1].

    Raises:
        MissingError: the index, the model or the GPU is not there.
        UsageError: no query, a blank one or two, another model than the index's, a bad `k` or
            `where`.
        ImageError: the query image cannot be read.
    """
    from encoderlab.encoders.dual import load_dual
    from encoderlab.retrieval.gallery import gallery
    from encoderlab.retrieval.image_index import Index, check_query
    from encoderlab.retrieval.sync import file_of

    query, image, db, k = settings.query, settings.image, settings.db, settings.k
    if (query is None) == (image is None):
        raise UsageError(
            "a search needs a sentence or an image, and not both",
            got=f"query={query!r}, image={image!r}",
            want='encoderlab search "a red circle", or --image FILE',
        )
    if query is not None:
        check_query(query)  # before the model is loaded
    index = Index.open(db)
    shown = query if query is not None else str(image)
    if not len(index):
        fingerprint = str(index.about["fingerprint"])
        return SearchResult(shown, db, index.model, fingerprint, "", "", (), k=k)
    encoder = load_dual(
        settings.model or index.model,
        settings.device,
        settings.dtype,
        images_alone=True,
        trust_remote_code=settings.trust_remote_code,
    )
    index.use(encoder)
    with collect_warnings() as query_warnings:
        answer = index.find(
            query if query is not None else Path(str(image)), k, settings.where, settings.exact
        )
    hits = tuple(answer.hits[0])
    shares: tuple[float | None, float | None] = (None, None)
    if query is not None and answer.nearest is not None:
        unrelated = index.unrelated
        if unrelated is not None:
            shares = unrelated.shares(hits[0].score, answer.nearest[0])
    missing = sum(not os.path.exists(file_of(hit.path)) for hit in hits if os.path.isabs(hit.path))
    warnings = (
        (f"of these images {missing:,} cannot be found any more: run encoderlab index again",)
        if missing
        else ()
    )
    if settings.html is not None:
        about = f"{counted(len(index), 'image')} in {db}, {encoder.name}; numbers are cosines"
        write_text_atomic(Path(settings.html), gallery("Search results", about, [(shown, hits)]))
    return SearchResult(
        shown,
        db,
        encoder.name,
        encoder.fingerprint,
        *encoder.where,
        hits,
        settings.html,
        len(index),
        answer.approximate,
        answer.unindexed,
        settings.where,
        k,
        *shares,
        (*warnings, *query_warnings),
    )
