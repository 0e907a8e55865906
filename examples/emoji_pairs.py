"""Training pairs in two languages from the bilingual emoji set, for docs/en/training.md.

Reads `pairs.csv` of the set (its columns: image_path, caption, caption_ko, keywords, keywords_ko,
split) and writes `train.both.csv` beside it: up to four captions an image. Usage:

    python examples/emoji_pairs.py FOLDER_OF_THE_SET
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path


def main(folder: Path) -> int:
    """Writes the table and says how many pairs it has."""
    source, target = folder / "pairs.csv", folder / "train.both.csv"
    if not source.is_file():
        print(f"no pairs.csv in {folder}", file=sys.stderr)
        return 3
    pairs = []
    with source.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["split"] == "train":
                said = [
                    row["caption"],
                    row["caption_ko"],
                    row["keywords"].replace("|", ", "),
                    row["keywords_ko"].replace("|", ", "),
                ]
                pairs += [(row["image_path"], text) for text in dict.fromkeys(said) if text]
    with target.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image_path", "caption"])
        rows.writerows(pairs)
    print(f"{len(pairs):,} pairs in {target}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(Path(sys.argv[1])))
