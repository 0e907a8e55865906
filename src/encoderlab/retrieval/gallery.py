"""Search results as one HTML page with embedded thumbnails. Knows hits; searches nothing."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from encoderlab.data.decode import ImageError, open_image
from encoderlab.data.shards import in_shard
from encoderlab.retrieval.image_index import Hit

THUMBNAIL = 320
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.about { opacity: .7; margin: .2rem 0 0; }
.hits { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); }
figure { margin: 0; border: 1px solid #8884; border-radius: .6rem; overflow: hidden; }
img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #8881; display: block; }
.none { aspect-ratio: 1; display: grid; place-items: center; opacity: .6; }
figcaption { padding: .5rem .7rem; font-size: .85rem; overflow-wrap: anywhere; }
.score { font-variant-numeric: tabular-nums; font-weight: 600; }
.path { opacity: .6; font-size: .75rem; }
"""


def gallery(title: str, about: str, answers: Sequence[tuple[str, Sequence[Hit]]]) -> str:
    """The HTML page of (query, hits, best first), without external files; `about` is a subtitle."""
    sections = "".join(f"<h2>{html.escape(query)}</h2>{pictures(hits)}" for query, hits in answers)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p class=about>{html.escape(about)}</p>{sections}</html>\n"
    )


def pictures(hits: Sequence[Hit]) -> str:
    """The hits side by side, as a part of a page."""
    return f"<div class=hits>{''.join(map(_figure, hits))}</div>"


def _figure(hit: Hit) -> str:
    path = Path(hit.path)
    caption = html.escape(hit.caption or path.name)
    return (
        f"<figure>{_thumbnail(hit.path, caption)}<figcaption>"
        f"<span class=score title='cosine to the query'>{hit.score:.3f}</span> {caption}"
        f"<div class=path>{html.escape(path.name)} · {hit.width} × {hit.height}</div>"
        "</figcaption></figure>"
    )


def _thumbnail(path: str, caption: str) -> str:
    packed = in_shard(path)
    source: Path | bytes
    try:
        source = Path(path) if packed is None else packed.read()
        image = open_image(source, min_side=THUMBNAIL)
    except ImageError as error:
        return f"<div class=none>{html.escape(error.reason)}</div>"
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90, subsampling=0)
    encoded = base64.b64encode(data.getvalue()).decode()
    return f"<img alt='{caption}' src='data:image/jpeg;base64,{encoded}'>"
