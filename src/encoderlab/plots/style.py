"""One style for every figure: colours, markers, fonts, and how a figure is written.

Colours differ in lightness and markers in shape, so that a figure can be read in grey. Draws into
matplotlib's Figure objects; no window, no global state.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from encoderlab.core.atomic_io import atomic_write
from encoderlab.core.progress import note

# "siglip" stands before "clip", which is part of it.
FAMILY_COLOURS = {
    "siglip": "#F5A623",
    "clip": "#4C8BF5",
    "dino": "#0ABAB5",
    "intern": "#E94B3C",
    "paligemma": "#6C5CE7",
}
OTHER_COLOURS = (
    "#8C564B", "#C2185B", "#2E7D32", "#5D4037", "#00838F", "#9E9D24", "#AD1457", "#37474F",
)  # fmt: skip
DATA_TYPE_COLOURS = {
    "chart": "#4C8BF5",
    "table": "#F5A623",
    "document": "#0ABAB5",
    "math": "#E94B3C",
    "visualization": "#6C5CE7",
    "text": "#0E7A76",
    "scene": "#8C564B",
}
CONTROL_COLOURS = {"untrained:": "#8A8A8A", "shuffled:": "#B8B8B8"}
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
    """A figure with its words and the numbers behind it.

    Args:
        name: of its file, without ending.
        caption: what it shows and how to read it.
        arrays: what is drawn, for others to draw again.
    """

    name: str
    figure: Figure
    caption: str
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@functools.cache
def fonts() -> tuple[str, ...]:
    """The text font, and behind it one with Korean letters where one is installed."""
    # It warns where a font has no bold; nearly bold will do.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    known = _known_fonts()
    if not known:
        # matplotlib remembers the fonts of its first run: one installed since is looked for here.
        for path in font_manager.findSystemFonts():
            if any(word in Path(path).name.lower() for word in KOREAN_FILES):
                font_manager.fontManager.addfont(path)
        known = _known_fonts()
    return ("DejaVu Sans", *known[:1])


def _known_fonts() -> list[str]:
    there = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in KOREAN_FONTS if name in there]


def warn_missing_glyphs(drawn: Figure) -> None:
    """Says once that Korean letters will be boxes, where a figure has some and no font does."""
    if len(fonts()) > 1:
        return
    words = "".join(one.get_text() for one in drawn.findobj(Text) if isinstance(one, Text))
    if any("가" <= letter <= "힣" for letter in words):
        # One line in place of matplotlib's one for each letter.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ \(\\N\{HANGUL")
        _warn_missing_glyphs()


@functools.cache
def _warn_missing_glyphs() -> None:
    note(
        "! no installed font has Korean letters: figures show boxes in their place "
        "(a font that has them: NanumGothic; on Debian and Ubuntu: apt-get install fonts-nanum)"
    )


def rules() -> Any:
    """The style, for the time of a `with` block."""
    return matplotlib.rc_context(_settings())


def apply_style() -> None:
    """Makes the style of our figures that of every figure drawn from now on in this process."""
    matplotlib.rcParams.update(_settings())


def style_axis(ax: Any) -> Any:
    """Gives axes that exist the look of our figures.

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
    for prefix, grey in CONTROL_COLOURS.items():
        if name.startswith(prefix):
            return grey
    for family, known in FAMILY_COLOURS.items():
        if family in name.lower():
            return known
    return _stable(name)


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
    """A colour for each; those that would share one differ in lightness."""
    found: dict[str, str] = {}
    taken: dict[str, int] = {}
    for name in names:
        base = of(name)
        times = taken.get(base, 0)
        taken[base] = times + 1
        found[name] = _darker(base, 0.72**times)
    return found


def markers(names: Sequence[str]) -> dict[str, str]:
    """A marker for each."""
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}


def figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that lays itself out."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def short(name: str, most: int = 34) -> str:
    """A name that fits beside an axis: of a path its end."""
    shown = name if len(name) <= most else name.split("/")[-1]
    return shown if len(shown) <= most else shown[: most - 1] + "…"


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
    for one in drawn:
        warn_missing_glyphs(one.figure)
        factor = min(1.0, PAPER_WIDTH / one.figure.get_figwidth()) if paper else 1.0
        dpi = PAPER_DPI if paper else DPI
        for ending in endings:
            path = folder / f"{one.name}.{ending}"
            with atomic_write(path) as unfinished, rules():
                if ending == "pdf":
                    _write_pdf(one.figure, unfinished, factor)
                    continue
                printed: Any = {"pil_kwargs": {"dpi": (dpi, dpi)}} if ending == "png" else {}
                one.figure.savefig(
                    unfinished, format=ending, dpi=dpi * factor, metadata=UNDATED[ending], **printed
                )
        written.append({"file": f"{one.name}.png", "caption": one.caption})
        if one.arrays:
            with (
                atomic_write(folder / f"{one.name}.npz") as unfinished,
                unfinished.open("wb") as file,
            ):
                np.savez_compressed(file, allow_pickle=False, **dict(one.arrays))
    return tuple(written)


def _write_pdf(drawn: Figure, path: Path, factor: float) -> None:
    """A PDF of the whole figure scaled by `factor`, letters and lines with it. The backend has no
    such setting, so its page gets the transformation before anything is drawn."""
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


def _darker(colour_: str, factor: float) -> str:
    channels = (int(colour_[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{int(c * factor):02X}" for c in channels)
