"""The dashboard of `speed`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from encoderlab.plots.style import FigureRecord, colours, figure, markers, rules, short, text_width

Json = Mapping[str, Any]


def speed(result: Json) -> list[FigureRecord]:
    """Latency, throughput, memory and share of peak by batch size, and the time to load."""
    rows = result["rows"]
    encoders = list(dict.fromkeys(r["encoder"] for r in rows))
    tint, shape = colours(encoders), markers(encoders)
    panels = (
        ("latency_ms", "latency per batch (median; band to p95)", "latency (ms)"),
        ("images_per_s", "throughput", "throughput (images/s)"),
        ("peak_share", "share of this device's matrix peak", "share (0 to 1)"),
        ("peak_memory_mb", "weights and peak memory of a pass", "memory (MB)"),
    )
    arrays = {}
    with rules():
        fig = figure(10 + 3 * text_width(map(short, encoders)), 7.6)
        grid = fig.subplots(2, 3)
        for ax, (key, title, label) in zip(grid.ravel(), panels, strict=False):
            for name in encoders:
                own = [r for r in rows if r["encoder"] == name]
                sizes = [r["batch_size"] for r in own]
                values = [r[key] for r in own]
                if key == "latency_ms":
                    values, high = ([v.get(p, np.nan) for v in values] for p in ("p50", "p95"))
                    ax.fill_between(sizes, values, high, color=tint[name], alpha=0.2)
                arrays[f"{key}|{name}"] = np.array([sizes, values], dtype=np.float64)
                ax.plot(sizes, values, shape[name] + "-", color=tint[name], label=short(name),
                        markeredgecolor="black", markeredgewidth=0.5)  # fmt: skip
            ax.set_title(title)
            ax.set_ylabel(label)
            ax.set_xlabel("batch size (images)")
            ax.set_xscale("log", base=2)
            sizes = sorted({r["batch_size"] for r in rows})
            ax.set_xticks(sizes, [str(s) for s in sizes])
            ax.minorticks_off()
            ax.set_ylim(bottom=0)
        bars = (
            ("load_seconds", "time to load (s)"),
            ("gflop_per_image", "operations per image (GFLOP)"),
        )
        for ax, (key, label) in zip(grid.ravel()[4:], bars, strict=True):
            values = [next(r[key] for r in rows if r["encoder"] == n) for n in encoders]
            shown = [0.0 if v is None else v for v in values]
            ax.barh(range(len(encoders)), shown, color=[tint[n] for n in encoders],
                    edgecolor="#333333", linewidth=0.6)  # fmt: skip
            for i, v in enumerate(values):
                ax.text(shown[i], i, " undefined" if v is None else f" {v:.3g}", va="center",
                        fontsize=8)  # fmt: skip
            ax.set_xlim(0, 1.25 * max([*shown, 1e-9]))
            ax.set_yticks(range(len(encoders)), [short(n) for n in encoders])
            ax.invert_yaxis()
            ax.set_xlabel(label)
            ax.grid(axis="y", visible=False)
            arrays[key] = np.array(values, dtype=np.float64)
        grid[0, 0].legend(fontsize=8)
        fig.suptitle(f"Speed on {result['device']} in {result['dtype']}")
    return [
        FigureRecord(
            "speed",
            fig,
            "Forward passes of decoded images: three to warm up, then ten timed. The peak is that "
            "of a large matrix product, measured on this device just before.",
            arrays,
        )
    ]
