"""Which drawn picture a file shows, and whether it is right for a query."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from encoderlab.data.synthetic import KINDS
from encoderlab.data.synthetic.item import SyntheticItem
from encoderlab.data.synthetic.write import distinct_items
from recipes.short_captions import KOREAN, TAGS, tags_of

MOST = 200
_ARTICLE = re.compile(r"^(an?|the) ")


@functools.cache
def _items(side: int, kinds: Sequence[str]) -> list[SyntheticItem]:
    return list(distinct_items(MOST, "test", side, 0, kinds))


def item_of(path: Path, kinds: Sequence[str] = KINDS) -> SyntheticItem:
    """The picture of the test split whose pixels the file has; `kinds` took turns."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    for item in _items(len(pixels), tuple(kinds)):
        if np.array_equal(np.asarray(item.image.convert("RGB")), pixels):
            return item
    raise AssertionError(f"{path} is none of the first {MOST} pictures of the test split")


def is_right(query: str, item: SyntheticItem) -> bool:
    """Whether the query is part of a caption, or names the kind or an object of the picture."""
    bare = _ARTICLE.sub("", query)
    captions = [*item.captions, *item.captions_ko]
    tags = tags_of(item.label, item.captions[0])
    korean = [form.format(TAGS[tag]) for tag in tags for form in KOREAN]
    return any(bare in caption for caption in captions) or bare in tags or query in korean
