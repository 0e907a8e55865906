"""Runs every benchmark, prints one table, and writes it into RESULTS.md.

    python benchmarks/run_all.py [--only search cka]

Each script runs in a process of its own, one after another; with `--only`, the rows of the others
stay as they were measured before (rows.json). `--others PYTHON` names the interpreter
of an environment with open_clip and sentence-transformers (`make bench` makes one); without it the
comparisons with them are left out, and said to be.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from table import ROWS_VARIABLE, as_markdown, as_row, gathered

HERE = Path(__file__).parent
RESULTS, ROWS = HERE / "RESULTS.md", HERE / "rows.json"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
# Scripts that are run with other words than none, once for each entry.
WORDS: dict[str, list[list[str]]] = {
    # A million of ours; against others, whose building takes longer, fewer.
    "bench_approximate_search.py": [["-n", "200000"], ["--without", "faiss", "usearch"]],
    "bench_embed_folder.py": [["-n", "512", "--loop", "64"], ["--backend", "auto", "-n", "512"]],
    "bench_token_maps.py": [[], ["--dtype", "bfloat16"]],
}
OTHERS_VARIABLE = "ENCODERLAB_BENCH_OTHERS"


def machine() -> str:
    """What the figures were measured on."""
    import torch
    import transformers

    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return (
        f"{os.cpu_count()} cores of {name}, {memory:.0f} GB, {gpu}; Python "
        f"{platform.python_version()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}"
    )


def main() -> int:
    """Runs, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="scripts whose name has one of these")
    parser.add_argument("--others", default=os.environ.get(OTHERS_VARIABLE, ""))
    given = parser.parse_args()
    scripts = sorted(HERE.glob("bench_*.py"))
    chosen = [s for s in scripts if not given.only or any(word in s.stem for word in given.only)]
    kept = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.is_file() else {}
    kept = {name: rows for name, rows in kept.items() if (HERE / name).is_file()}
    failed = []
    for script in chosen:
        print(f"== {script.name}", flush=True)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "rows.jsonl"
            environment = {**os.environ, ROWS_VARIABLE: str(place), OTHERS_VARIABLE: given.others}
            codes = [
                subprocess.run([sys.executable, script, *words], env=environment).returncode
                for words in WORDS.get(script.name, [[]])
            ]
            rows = gathered(place)
        print(f"   {time.monotonic() - started:.0f} s", flush=True)
        if any(codes):
            failed.append(script.name)
            continue
        kept[script.name] = [asdict(row) for row in rows]
        # After each: half an hour of measuring is not lost to what comes last.
        write({name: kept[name] for name in sorted(kept)})
    rows = [as_row(one) for name in sorted(kept) for one in kept[name]]
    print(f"\n{machine()}\n\n{as_markdown(rows)}")
    for row in rows:
        if row.met is False:
            print(f"missed: {row.task}")
    if failed:
        print(f"did not run to its end: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def write(kept: dict[str, list[dict]]) -> None:
    """Keeps the rows, and puts the table into RESULTS.md."""
    ROWS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    table = as_markdown([as_row(one) for rows in kept.values() for one in rows])
    before, _, rest = RESULTS.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    measured = f"Measured on {machine()}.\n\n{table}"
    RESULTS.write_text(f"{before}{BEGIN}\n{measured}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
