"""One style for every figure: colours, markers, fonts, and writing figures to files.

Colours differ in lightness and markers in shape, so that a figure can be read in grey. Knows no
result.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from encoderlab.core.aliases import SHUFFLED, UNTRAINED
from encoderlab.core.atomic_io import atomic_write
from encoderlab.core.progress import note

# Okabe & Ito 2008 without black, and three dark colours of Tol 2021 ("muted"): any two differ for
# those who see no red or no green, too (tests/plots/test_figures.py). The markers differ as well.
PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442",
    "#332288", "#117733", "#882255",
)  # fmt: skip
BLUE, ORANGE, GREEN, RED, PURPLE, *OTHER_COLOURS = PALETTE
SHADE = 0.72  # from one shade of a colour to the next darker one
# The first name that is part of the model's name counts: "siglip" before "clip".
FAMILY_COLOURS = {
    "siglip": ORANGE, "clip": BLUE, "dino": GREEN, "intern": RED, "paligemma": PURPLE,
}  # fmt: skip
DATA_TYPES = ("chart", "table", "document", "math", "visualization", "text", "scene")
DATA_TYPE_COLOURS = dict(zip(DATA_TYPES, PALETTE, strict=False))
CONTROL_COLOURS = {UNTRAINED: "#8A8A8A", SHUFFLED: "#B8B8B8"}
CONTROL_HATCHES = {UNTRAINED: "", SHUFFLED: "///"}
CONTROL_NAMES = {UNTRAINED: "untrained encoders", SHUFFLED: "shuffled pairs"}
MARKERS = "osD^vPX*<>"
KOREAN_FONTS = (
    "Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "NanumSquareRound", "NanumBarunGothic",
    "Malgun Gothic", "Apple SD Gothic Neo", "UnDotum", "Baekmuk Gulim",
)  # fmt: skip
KOREAN_FILES = ("nanum", "notosanscjk", "notosanskr", "malgun", "sdgothic", "undotum", "gulim")
HEAT = "viridis"  # its lightness rises all the way
DPI = 150
PAPER_WIDTH, PAPER_DPI = 7.0, 300  # two columns of a usual page
UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None}, "svg": {"Date": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}  # fmt: skip
CHANCE: dict[str, Any] = {"color": "#444444", "linestyle": (0, (4, 3)), "linewidth": 1.0}
RULES: dict[str, Any] = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "figure.titlesize": 13,
    "figure.titleweight": "bold",
    "font.size": 10,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "encoderlab",
    "axes.unicode_minus": False,
}


@dataclass(frozen=True)
class FigureRecord:
    """A figure with its caption and the numbers that it shows.

    Args:
        name: of its file, without suffix.
        caption: what it shows and how to read it.
        arrays: the numbers drawn; `save` writes them as .npz.
    """

    name: str
    figure: Figure
    caption: str
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@functools.cache
def fonts() -> tuple[str, ...]:
    """The text font, and as fallback a font with Korean letters where one is installed."""
    # matplotlib warns where a font has no bold face.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    known = _known_fonts()
    if not known:
        # matplotlib caches its list of fonts: a font installed later is not in it.
        for path in font_manager.findSystemFonts():
            if any(word in Path(path).name.lower() for word in KOREAN_FILES):
                font_manager.fontManager.addfont(path)
        known = _known_fonts()
    return ("DejaVu Sans", *known[:1])


def _known_fonts() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in KOREAN_FONTS if name in installed]


def warn_missing_glyphs(drawn: Figure) -> None:
    """Warns once if a figure has Korean letters and no installed font has them."""
    if len(fonts()) > 1:
        return
    texts = "".join(text.get_text() for text in drawn.findobj(Text) if isinstance(text, Text))
    if any("가" <= letter <= "힣" for letter in texts):
        # Replaces matplotlib's warning for each letter.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ \(\\N\{HANGUL")
        _warn_missing_glyphs()


@functools.cache
def _warn_missing_glyphs() -> None:
    note(
        "! no installed font has Korean letters: figures show boxes in their place "
        "(a font that has them: NanumGothic; on Debian and Ubuntu: apt-get install fonts-nanum)"
    )


def rules() -> Any:
    """Context manager: the style of our figures, for figures drawn in the block."""
    return matplotlib.rc_context(_settings())


def apply_style() -> None:
    """Makes the style of our figures that of every figure drawn from now on in this process."""
    matplotlib.rcParams.update(_settings())


def style_axis(ax: Any) -> Any:
    """Applies the style of our figures to existing axes.

    Args:
        ax: matplotlib axes.

    Returns:
        The same axes: a grid behind the data, no lines above and to the right.
    """
    ax.grid(visible=True, color=RULES["grid.color"], linewidth=RULES["grid.linewidth"])
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _settings() -> dict[Any, Any]:
    return {**RULES, "font.family": list(fonts())}


def get_model_color(name: str) -> str:
    """The colour of an encoder or LLM: of its family, or a stable one of its own.

    Args:
        name: as it stands in results; `untrained:` and `shuffled:` are grey.

    Returns:
        "#RRGGBB".
    """
    if prefix := control_prefix(name):
        return CONTROL_COLOURS[prefix]
    for family, known in FAMILY_COLOURS.items():
        if family in name.lower():
            return known
    return _stable(name)


def control_prefix(name: str) -> str:
    """The prefix of a control's name, a key of CONTROL_NAMES; empty for any other encoder."""
    return next((prefix for prefix in CONTROL_NAMES if name.startswith(prefix)), "")


def get_data_type_color(dtype: str) -> str:
    """The colour of a data type such as "chart", or a stable one of its own.

    Args:
        dtype: the data type.

    Returns:
        "#RRGGBB".
    """
    return DATA_TYPE_COLOURS.get(dtype) or _stable(dtype)


def _stable(name: str) -> str:
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    return OTHER_COLOURS[int.from_bytes(digest, "big") % len(OTHER_COLOURS)]


def colours(names: Sequence[str], of: Callable[[str], str] = get_model_color) -> dict[str, str]:
    """Name -> colour "#RRGGBB"; names with the same base colour differ in lightness."""
    result: dict[str, str] = {}
    uses: Counter[str] = Counter()
    for name in names:
        base = of(name)
        channels = (int(base[i : i + 2], 16) for i in (1, 3, 5))
        result[name] = "#" + "".join(f"{int(c * SHADE ** uses[base]):02X}" for c in channels)
        uses[base] += 1
    return result


def markers(names: Sequence[str]) -> dict[str, str]:
    """Name -> matplotlib marker."""
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}


def figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, with constrained layout."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def short(name: str, most: int = 34) -> str:
    """A name of at most `most` characters for an axis; of a longer path the last part."""
    shown = name if len(name) <= most else name.split("/")[-1]
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def text_width(texts: Iterable[str], size: float = 10) -> float:
    """Inches that the longest line of the texts takes in a font of this size."""
    # A Latin letter is about 0.6 as wide as the font is high, a Korean one as wide.
    units = (sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.6 for c in line)
             for text in texts for line in text.split("\n"))  # fmt: skip
    return max(units, default=0.0) * size / 72


def save(
    drawn: Sequence[FigureRecord], folder: Path, *, svg: bool = False, paper: bool = False
) -> tuple[dict[str, str], ...]:
    """Writes figures, and their numbers as .npz.

    Args:
        drawn: the figures.
        folder: where they are written.
        svg: write .svg beside .png.
        paper: write .pdf beside .png, both at print size: at most PAPER_WIDTH inches wide, the
            .png at 300 dots per inch.

    Returns:
        The .png file and the caption of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    endings = ["png", *(["svg"] if svg else []), *(["pdf"] if paper else [])]
    for record in drawn:
        warn_missing_glyphs(record.figure)
        factor = min(1.0, PAPER_WIDTH / record.figure.get_figwidth()) if paper else 1.0
        dpi = PAPER_DPI if paper else DPI
        for ending in endings:
            with atomic_write(folder / f"{record.name}.{ending}") as path, rules():
                if ending == "pdf":
                    _write_pdf(record.figure, path, factor)
                    continue
                printed: Any = {"pil_kwargs": {"dpi": (dpi, dpi)}} if ending == "png" else {}
                record.figure.savefig(
                    path, format=ending, dpi=dpi * factor, metadata=UNDATED[ending], **printed
                )
        written.append({"file": f"{record.name}.png", "caption": record.caption})
        if record.arrays:
            with atomic_write(folder / f"{record.name}.npz") as path, path.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **dict(record.arrays))
    return tuple(written)


def _write_pdf(drawn: Figure, path: Path, factor: float) -> None:
    """Writes a PDF of the figure scaled by `factor`, text and lines too. matplotlib's backend has
    no such setting, so the page gets the transformation before anything is drawn."""
    from matplotlib.backends.backend_mixed import MixedModeRenderer
    from matplotlib.backends.backend_pdf import Op, PdfFile, RendererPdf

    width, height = drawn.get_size_inches()
    dpi = drawn.dpi
    drawn.set_dpi(72)  # points
    pdf = PdfFile(str(path), metadata=UNDATED["pdf"])
    try:
        pdf.newPage(width * factor, height * factor)
        pdf.output(factor, 0, 0, factor, 0, 0, Op.concat_matrix)
        vector = RendererPdf(pdf, PAPER_DPI, height, width)
        renderer: Any = MixedModeRenderer(drawn, width, height, PAPER_DPI, vector)
        drawn.draw(renderer)
        renderer.finalize()
        pdf.finalize()
    finally:
        pdf.close()
        drawn.set_dpi(dpi)
