"""The whole round on the bundled models, as a newcomer would type it: which encoder fits which
LLM, then index, search, classify.

Compares the bundled encoders on built-in samples and writes the report; draws 300 held-out
pictures of the synthetic world, adds every photograph that scikit-image ships, and searches them.
`make demo` starts it; it needs no network.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path("outputs/demo")
# A query -> the English caption of the picture that it describes.
SEARCHES = {
    "a large red heart to the left of a small blue arrow": "a large red heart to the left of a "
    "small blue arrow",
    "a line chart with a yellow line that falls and a purple line that rises": "a line chart "
    "with a yellow line that falls and a purple line that rises",
    "파란 머리글 아래 6행 2열이 있고 초록색 칸이 있는 표": "a table with six rows and two columns, "
    "a blue header, and a green cell in row three, column two",
}


def main() -> int:
    """Runs the demo and says where its results are."""
    started = time.perf_counter()
    shutil.rmtree(FOLDER, ignore_errors=True)
    pictures, photographs = FOLDER / "synthetic", FOLDER / "photographs"
    python = [sys.executable, "-m", "encoderlab"]
    report = FOLDER / "runs/all"
    store = ["--features-dir", str(FOLDER / "features")]
    _run([*python, "all", *store, "--output-dir", str(report)], lines=16)
    print("\n# 300 held-out pictures of the synthetic world, and scikit-image's photographs")
    _run(
        [sys.executable, "-m", "encoderlab.data.synthetic", "--out", str(pictures), "-n", "300"],
        shown="python -m encoderlab.data.synthetic",
    )
    print(f"{_copy_photographs(photographs)} photographs in {photographs}")
    db = ["--db", str(FOLDER / "index")]
    record = ["--output-dir", str(FOLDER / "runs/index")]
    _run([*python, "index", str(pictures / "captions.csv"), *db, *record])
    _run([*python, "index", str(photographs), *db, *record])
    gallery = FOLDER / "gallery.html"
    for number, sentence in enumerate(SEARCHES):
        page = ["--html", str(gallery if number == 0 else FOLDER / f"gallery-{number + 1}.html")]
        record = ["--output-dir", str(FOLDER / f"runs/search-{number + 1}")]
        _run([*python, "search", sentence, "-k", "5", *db, *page, *record])
    _run(
        [
            *python,
            "classify",
            "--image-dir",
            str(pictures / "images"),
            "--classes",
            "scene,chart,table,document,math",
            "--output-dir",
            str(FOLDER / "runs/classify"),
        ],
        lines=18,
    )
    print("\n".join(_summary(report, gallery, time.perf_counter() - started)))
    return 0


def _summary(report: Path, gallery: Path, seconds: float) -> list[str]:
    """The last screen: what was found, why it can be trusted, and what to do next."""
    aligned = _result("all")
    rows = aligned["sections"]["compare"]["rows"]
    controls = {
        kind: max(
            row["scores"]["cka_linear"]["value"] for row in rows if row["encoder"].startswith(kind)
        )
        for kind in ("untrained:", "shuffled:")
    }
    right = sum(
        _result(f"search-{number}")["hits"][0]["caption"] == caption
        for number, caption in enumerate(SEARCHES.values(), start=1)
    )
    accuracy = _result("classify")["accuracy"]["top1"]
    return [
        f"\n# Done in {seconds:.0f} s",
        "\nFound:",
        f"  {aligned['answer']}",
        f"  the right picture came first in {right} of {len(SEARCHES)} searches among 328 pictures",
        f"  {accuracy['value']:.1%} of {accuracy['n']} pictures were classified right by name",
        "\nWhy to trust it:",
        f"  shuffled pairs reach a CKA of {controls['shuffled:']:.3f} at most, encoders before "
        f"their training {controls['untrained:']:.3f}",
        f"  a guessed class is right in {accuracy['chance']:.0%}; no model has seen these pictures",
        f"  intervals and limits are in the report: {(report / 'report.html').resolve()}",
        "\nNext:",
        "  encoderlab draw && encoderlab vlm answer photos/scene/scene-014.png "
        '--text "What colour is the circle?"',
        "  encoderlab all --encoders clip siglip dinov2 --llms qwen   # checkpoints from the hub",
        "  encoderlab app   # all of it as a web page",
        f"\ngallery: {gallery.resolve()}",
        f"records of every run: {(FOLDER / 'runs').resolve()}",
    ]


def _result(run: str) -> dict[str, Any]:
    """The result in the record of a run of this demo."""
    record = json.loads((FOLDER / "runs" / run / "run.json").read_text(encoding="utf-8"))
    return record["result"]


def _copy_photographs(target: Path) -> int:
    """Every image file inside the scikit-image package."""
    import skimage

    source = Path(skimage.__file__).parent / "data"
    target.mkdir(parents=True)
    found = sorted(
        file
        for file in source.iterdir()
        if file.suffix.lower() in (".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff")
    )
    for file in found:
        shutil.copy(file, target / file.name)
    return len(found)


def _run(words: list[str], shown: str = "encoderlab", lines: int | None = None) -> None:
    """Prints the command as it would be typed, runs it, and prints its first `lines` lines."""
    print(f"\n$ {shown} {shlex.join(words[3:])}", flush=True)
    done = subprocess.run(
        [*words, "--quiet"] if shown == "encoderlab" else words,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.returncode)
    answer = done.stdout.splitlines()
    print("\n".join(answer if lines is None else answer[:lines]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
