"""Prints the table of docs/en/real-models.md: debiased CKA of real models on held-out emoji.

make test-real ENCODERLAB_REAL_DATA=FOLDER
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from benchmarks import real_models

import encoderlab

BUNDLED = ("tiny-clip", "tiny-siglip", "tiny-dinov2")
STYLE = "images/noto/"


def write_emoji(real: Path, folder: Path) -> Path:
    """Writes a table with one drawing of each test emoji: those of one emoji share its name."""
    source = real / "emoji-bilingual"
    header, *lines = (source / "test.en.csv").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith(STYLE)]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / STYLE).mkdir(parents=True)
    for image in (row.partition(",")[0] for row in rows):
        shutil.copy(source / image, folder / image)
    (folder / "pairs.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return folder / "pairs.csv"


def main() -> None:
    """Prints the table."""
    real = os.environ.get("ENCODERLAB_REAL_DATA")
    if not real:
        sys.exit("ENCODERLAB_REAL_DATA does not name the folder of the unpacked real sets")
    work = Path("outputs/real-alignment")
    encoders = {
        "EfficientNet-Lite0": str(real_models.write_efficientnet(work / "efficientnet-lite0")),
        "DINOv2-small, tuned for saliency": str(real_models.write_dinov2_small(work / "dinov2")),
    } | {name: name for name in BUNDLED}
    llms = {"MiniLM": str(real_models.minilm()), "SmolLM2-135M": str(real_models.smollm2())}
    result = encoderlab.compare(
        encoders=[*encoders.values()], llms=[*llms.values()], controls=True, n_samples=1000,
        data_root=str(write_emoji(Path(real), work / "emoji")), device="cpu", dtype="float32",
        features_dir=str(work / "features"), out=work,
    )  # fmt: skip
    scores = {(row.encoder, row.llm): row.scores["cka_linear"].as_number() for row in result.rows}
    print("| encoder | language model | trained | untrained | shuffled pairs |")
    print("|---|---|---|---|---|")
    for name, encoder in encoders.items():
        for llm_name, llm in llms.items():
            kinds = [scores[kind + encoder, llm] for kind in ("", "untrained:", "shuffled:")]
            print("|", " | ".join([name, llm_name, *kinds]), "|")


if __name__ == "__main__":
    main()
