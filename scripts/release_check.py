"""Is this checkout fit to be released? Builds it, looks inside, and uses it where nothing of it is.

    python scripts/release_check.py              # everything: some minutes, most of them pip's
    python scripts/release_check.py --no-install # build and look inside only

Builds sdist and wheel, and the wheel once more from the sdist; checks what is in them and what they
say of themselves; installs the wheel into an empty environment outside the checkout and runs the
demo there. Prints a line per step and ends with a summary. Standard library only; pip must reach an
index. Exit code 0: fit; 1: not.
"""

from __future__ import annotations

import argparse
import email
import email.message
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
BUILD_TOOLS = ("build", "hatchling", "twine")
MEGABYTE = 1_000_000
LARGEST = {"wheel": 45, "sdist": 90}  # megabytes: PyPI takes 100
MODELS = ("tiny-clip", "tiny-siglip", "tiny-dinov2", "tiny-llama", "tiny-qwen")
# What a wheel must hold, below encoderlab/.
NEEDED = (
    "__init__.py",
    "py.typed",
    "core/aliases.yaml",
    "cli/groups/tokens/config.yaml",
    "web/words/en.yaml",
    "web/words/ko.yaml",
    "web/page.js",
    "web/style.css",
    "plots/embedding.html",
    "reports/alignment_report.html",
    "data/sample_data/labels.jsonl",
    *(f"zoo/{name}/{file}" for name in MODELS for file in ("config.json", "model.safetensors")),
)
# What neither may hold, by a part of its path.
UNWANTED = re.compile(
    r"(^|/)(outputs|multirun|__pycache__|\.git|\.venv[^/]*|\.[a-z_]+_cache|\.hypothesis|"
    r"lightning_logs|wandb)/|\.py[cod]$|\.ckpt$"
)


class Unfit(Exception):
    """What is wrong, in one sentence."""


def main() -> int:
    """Runs all steps; stops at the first that fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--no-install", action="store_true", help="build and look inside only")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy sdist and wheel there")
    parser.add_argument("--verbose", action="store_true", help="show what the tools print")
    asked = parser.parse_args()
    started, done = time.perf_counter(), 0
    with tempfile.TemporaryDirectory(prefix="encoderlab-release-") as folder:
        for name, step in steps(Path(folder), asked.no_install, asked.keep, asked.verbose):
            clock = time.perf_counter()
            try:
                said = step()
            except Unfit as wrong:
                print(f"FAIL  {name} ({time.perf_counter() - clock:.1f} s): {wrong}", flush=True)
                print(f"not fit to be released: {name} failed after {done} steps that passed")
                return 1
            print(f"ok    {name} ({time.perf_counter() - clock:.1f} s): {said}", flush=True)
            done += 1
    print(f"fit to be released: {done} steps in {time.perf_counter() - started:.0f} s")
    return 0


def steps(
    work: Path, no_install: bool, keep: Path | None, verbose: bool
) -> list[tuple[str, Callable[[], str]]]:
    """Name and function of each step, in order; `work` is an empty folder outside the checkout."""
    dist, again, empty = work / "dist", work / "from-sdist", work / "empty"
    tools, user = work / "tools", work / "user"

    def built() -> tuple[Path, Path]:
        return next(dist.glob("*.tar.gz")), next(dist.glob("*.whl"))

    def kept() -> str:
        assert keep is not None
        keep.mkdir(parents=True, exist_ok=True)
        return ", ".join(str(shutil.copy(one, keep)) for one in built())

    found: list[tuple[str, Callable[[], str]]] = [
        ("tools", lambda: environment(tools, BUILD_TOOLS, verbose)),
        ("build sdist and wheel", lambda: build(tools, ROOT, dist, verbose)),
        ("inside the wheel", lambda: inside_wheel(built()[1])),
        ("inside the sdist", lambda: inside_sdist(built()[0])),
        ("wheel from the sdist", lambda: same_from_sdist(tools, *built(), again, verbose)),
        ("metadata", lambda: metadata(built()[1])),
        ("twine check", lambda: twine(tools, built(), verbose)),
    ]
    if keep is not None:
        found.append(("keep", kept))
    if not no_install:
        found += [
            ("install the wheel", lambda: install(user, built()[1], verbose)),
            ("it is the wheel that is used", lambda: not_the_checkout(user, empty)),
            ("encoderlab --help", lambda: use(user, empty, ["--help"], "usage: encoderlab")),
            ("encoderlab doctor", lambda: use(user, empty, ["doctor"], "encoderlab")),
            ("the demo", lambda: demo(user, empty, verbose)),
        ]
    return found


def environment(folder: Path, packages: tuple[str, ...], verbose: bool = False) -> str:
    """A virtual environment with some packages, at the versions we test with where we name them."""
    venv.create(folder, with_pip=True)
    pip(folder, [*packages], verbose)
    return ", ".join(packages)


def pip(folder: Path, wanted: list[str], verbose: bool) -> None:
    """Installs into an environment.

    Raises:
        Unfit: pip could not.
    """
    command = [python(folder), "-m", "pip", "install", "--disable-pip-version-check"]
    run([*command, "-c", str(CONSTRAINTS), *wanted], verbose, cwd=folder)


def build(tools: Path, source: Path, target: Path, verbose: bool = False) -> str:
    """sdist and wheel of a source tree, each from the tree itself."""
    for kind in ("--sdist", "--wheel"):
        command = [python(tools), "-m", "build", "--no-isolation", kind]
        run([*command, "--outdir", str(target), str(source)], verbose, cwd=tools)
    return ", ".join(sorted(one.name for one in target.iterdir()))


def inside_wheel(wheel: Path) -> str:
    """What must be there is, and nothing else is."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing = [name for name in NEEDED if f"encoderlab/{name}" not in names]
    if missing:
        raise Unfit(f"the wheel lacks encoderlab/{missing[0]} ({len(missing)} missing)")
    if not any(re.search(r"\.dist-info/licenses/LICENSE$", name) for name in names):
        raise Unfit("the wheel lacks the licence")
    strange = [name for name in names if not re.match(r"encoderlab(-[^/]+\.dist-info)?/", name)]
    strange += [name for name in names if UNWANTED.search(name) or "/tests/" in name]
    if strange:
        raise Unfit(f"the wheel holds {strange[0]} ({len(strange)} that do not belong there)")
    return size("wheel", wheel, len(names))


def inside_sdist(sdist: Path) -> str:
    """The sources are there, and nothing that tools and runs made."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    wanted = [f"src/encoderlab/{name}" for name in NEEDED]
    wanted += ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise Unfit(f"the sdist lacks {missing[0]} ({len(missing)} missing)")
    strange = [name for name in names if UNWANTED.search(name)]
    if strange:
        raise Unfit(f"the sdist holds {strange[0]} ({len(strange)} that do not belong there)")
    return size("sdist", sdist, len(names))


def size(kind: str, file: Path, entries: int) -> str:
    """How large a file is.

    Raises:
        Unfit: larger than its bound.
    """
    megabytes = file.stat().st_size / MEGABYTE
    if megabytes > LARGEST[kind]:
        raise Unfit(f"the {kind} has {megabytes:.1f} MB, and {LARGEST[kind]} are the most")
    return f"{entries} entries, {megabytes:.1f} MB of at most {LARGEST[kind]}"


def same_from_sdist(
    tools: Path, sdist: Path, wheel: Path, folder: Path, verbose: bool = False
) -> str:
    """Builds the wheel from the sdist: it must hold the same files, byte for byte."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    command = [python(tools), "-m", "build", "--no-isolation", "--wheel"]
    run([*command, "--outdir", str(folder / "dist"), str(source)], verbose, cwd=tools)
    one, other = contents(wheel), contents(next((folder / "dist").glob("*.whl")))
    differ = sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
    if differ:
        raise Unfit(f"{differ[0]} is not the same in both wheels ({len(differ)} differ)")
    return f"the same {len(one)} files"


def contents(wheel: Path) -> dict[str, int]:
    """name -> checksum of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {one.filename: one.CRC for one in archive.infolist() if not one.is_dir()}


def metadata(wheel: Path) -> str:
    """What the wheel says of itself agrees with the code."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(archive.read(name))
        entry_points = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    version = source_version()
    description = said.get_payload()
    checks = {
        f"its version is {said['Version']} and the code's {version}": said["Version"] == version,
        f"its name is {said['Name']}": said["Name"] == "encoderlab",
        f"its licence is {said['License-Expression']}": said["License-Expression"] == "MIT",
        "it has no summary": bool(said["Summary"]),
        "its description is no Markdown": (
            str(said["Description-Content-Type"]).startswith("text/markdown")
            and isinstance(description, str)
            and description.lstrip().startswith("# EncoderLab")
        ),
        "it says no Python version": bool(said["Requires-Python"]),
        "it has no command": "encoderlab = encoderlab.cli.main:main" in entry_points,
    }
    wrong = [what for what, right in checks.items() if not right]
    if wrong:
        raise Unfit(wrong[0])
    return f"encoderlab {version}, {len(said.get_all('Requires-Dist') or [])} requirements"


def source_version() -> str:
    """The version that the code has."""
    text = (ROOT / "src/encoderlab/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise Unfit("src/encoderlab/__init__.py has no __version__")
    return found[1]


def twine(tools: Path, files: tuple[Path, Path], verbose: bool) -> str:
    """An index would take them, and the description renders."""
    run([python(tools), "-m", "twine", "check", "--strict", *map(str, files)], verbose, cwd=tools)
    return "an index would take both"


def install(user: Path, wheel: Path, verbose: bool) -> str:
    """The wheel, with what the demo needs, in an environment that holds nothing else."""
    venv.create(user, with_pip=True)
    pip(user, [f"{wheel}[demo]"], verbose)
    listed = run([python(user), "-m", "pip", "list", "--format=freeze"], cwd=user)
    return f"{len(listed.splitlines())} packages"


def not_the_checkout(user: Path, empty: Path) -> str:
    """Nothing of the checkout can be imported there."""
    empty.mkdir(exist_ok=True)
    program = "import sys, encoderlab; print(encoderlab.__file__); print(*sys.path, sep='\\n')"
    where, *paths = run([python(user), "-c", program], cwd=empty).splitlines()
    if not Path(where).is_relative_to(user.resolve()):
        raise Unfit(f"encoderlab is imported from {where}")
    near = [one for one in paths if one and Path(one).resolve().is_relative_to(ROOT)]
    if near:
        raise Unfit(f"the checkout can be imported: {near[0]}")
    return "imported from the environment alone"


def use(user: Path, empty: Path, words: list[str], expected: str) -> str:
    """A command ends well and says what it should."""
    said = run([str(user / bin_folder() / "encoderlab"), *words], cwd=empty)
    if expected not in said:
        raise Unfit(f"it does not say {expected!r}: {said.strip()[:200]!r}")
    return f"{len(said.splitlines())} lines"


def demo(user: Path, empty: Path, verbose: bool) -> str:
    """examples/demo.py, copied alone, runs to its end."""
    shutil.copy(ROOT / "examples/demo.py", empty / "demo.py")
    said = run([python(user), "demo.py"], verbose, cwd=empty)
    for made in ("outputs/demo/runs/all/report.html", "outputs/demo/gallery.html"):
        if not (empty / made).is_file():
            raise Unfit(f"it wrote no {made}")
    ended = [line for line in said.splitlines() if line.startswith("done in")]
    if not ended:
        raise Unfit("it did not come to its end")
    return ended[0]


def run(command: list[str], verbose: bool = False, *, cwd: Path) -> str:
    """What a command prints, run where nothing points at the checkout.

    Raises:
        Unfit: it failed.
    """
    hidden = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(command, cwd=cwd, env=clean, text=True, capture_output=True, check=False)
    if verbose:
        print(done.stdout + done.stderr, flush=True)
    if done.returncode:
        last = "\n      ".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        what = " ".join(Path(command[0]).name if i == 0 else w for i, w in enumerate(command[:5]))
        raise Unfit(f"`{what} ...` ended with {done.returncode}:\n      {last}")
    return done.stdout


def python(folder: Path) -> str:
    """The interpreter of an environment."""
    return str(folder / bin_folder() / "python")


def bin_folder() -> str:
    """Where an environment keeps its programs."""
    return "Scripts" if os.name == "nt" else "bin"


if __name__ == "__main__":
    sys.exit(main())
