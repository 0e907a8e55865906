"""`python -m encoderlab.data.synthetic --out FOLDER -n 300`: a data set of the synthetic world."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from encoderlab.data.synthetic.item import LANGUAGES
from encoderlab.data.synthetic.world import KINDS, SPLITS
from encoderlab.data.synthetic.write import write_dataset, write_sample_data
from encoderlab.errors import EncoderLabError


def main(words: list[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m encoderlab.data.synthetic", description=__doc__
    )
    # fmt: off
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("-n", type=int, default=300, help="how many pictures (default: 300)")
    parser.add_argument("--split", default="test", choices=SPLITS,
                        help="test pictures are never trained on (default: test)")
    parser.add_argument("--kinds", nargs="+", default=KINDS, metavar="KIND",
                        help=f"which kinds take turns (default: {' '.join(KINDS)})")
    parser.add_argument("--languages", nargs="+", default=LANGUAGES, choices=LANGUAGES,
                        help="captions in these; captions.csv has the first (default: en ko)")
    parser.add_argument("--size", type=int, default=96, help="pixels a side (default: 96)")
    parser.add_argument("--first-index", type=int, default=0, help="where in the split to start")
    parser.add_argument("--sample-data", action="store_true",
                        help="write the nine pictures that ship with the package instead")
    # fmt: on
    arguments = vars(parser.parse_args(words))
    out = arguments.pop("out")
    try:
        if arguments.pop("sample_data"):
            write_sample_data(out)
        else:
            write_dataset(out, **arguments)
    except EncoderLabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
