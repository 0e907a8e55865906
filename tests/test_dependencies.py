"""What we stand on: declared, explained, pinned, used, listed with its licence."""

import ast
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REASONS = next(
    one
    for one in (ROOT / "docs/en/dependencies.md", ROOT / "docs/dependencies.md")
    if one.is_file()
)
# What a package is imported as, where that is not its name.
IMPORTED_AS = {
    "hydra-core": "hydra", "pillow": "PIL", "scikit-learn": "sklearn", "scikit-image": "skimage",
    "pyyaml": "yaml", "umap-learn": "umap", "faiss-cpu": "faiss", "rich-argparse": "rich_argparse",
    "import-linter": "importlinter", "pot": "ot",
}  # fmt: skip
# Imported nowhere in our code: a library of ours imports it when it is asked for by name.
BY_NAME = {
    "tensorboard": "Lightning's logger", "accelerate": "transformers' device_map",
    "bitsandbytes": "transformers' quantisation", "gguf": "transformers' gguf_file",
    "wandb": "Lightning's logger",
    "s3fs": "fsspec's s3://", "gcsfs": "fsspec's gs://", "adlfs": "fsspec's az://",
    "hydra-joblib-launcher": "hydra/launcher=joblib",
    "hydra-submitit-launcher": "hydra/launcher=submitit_slurm", "scikit-image": "examples/demo.py",
    "onnxscript": "torch.onnx's exporter", "onnx": "torch.onnx's exporter",
}  # fmt: skip
# Comes with a package that we declare, and is documented as part of it.
PART_OF = {
    "omegaconf": "hydra-core",
    "pandas": "lancedb",
    "starlette": "gradio",
    "playwright": "dev",
    "lmms_eval": "the program that loads our plug-in",
}


def declared(*extras: str) -> dict[str, str]:
    """name -> what it is imported as, of the core or of some extras."""
    wanted = [one for extra in extras for one in EXTRAS[extra]] or PROJECT["dependencies"]
    names = [canonicalize_name(Requirement(one).name) for one in wanted]
    return {n: IMPORTED_AS.get(n, n.replace("-", "_")) for n in names if n != "encoderlab"}


def imported() -> dict[str, str]:
    """Top-level module -> a file of src that imports it, of all that are not Python's nor ours."""
    found: dict[str, str] = {}
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                found.setdefault(name.partition(".")[0], str(file.relative_to(ROOT)))
    ours = {"encoderlab", "__future__"}
    return {n: f for n, f in found.items() if n not in sys.stdlib_module_names and n not in ours}


TOOLS = ("bench", "dev", "docs", "lessons", "release")  # extras of those who work on the project
USERS = [extra for extra in EXTRAS if extra not in TOOLS]
PINS = {
    canonicalize_name(name): version
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for name, _, version in [line.partition("==")]
    if version
}


def test_whatever_is_imported_is_declared():
    known = {*declared().values(), *declared(*USERS).values(), *PART_OF}
    undeclared = {name: file for name, file in imported().items() if name not in known}
    assert undeclared == {}


def test_whatever_is_declared_is_used():
    used = imported()
    for name, module in {**declared(), **declared(*USERS)}.items():
        assert module in used or name in BY_NAME, f"{name} is declared, and nothing imports it"


def test_every_dependency_has_its_reason_and_its_version():
    reasons = REASONS.read_text(encoding="utf-8").lower().replace("_", "-")
    for extra in [None, *EXTRAS]:
        for name in declared(extra) if extra else declared():
            assert re.search(rf"\b{re.escape(name)}\b", reasons), f"no reason for {name}"
            # Storages come with fsspec's own pins; which one is wanted, the machine decides.
            assert name in PINS or extra in ("s3", "gs", "az"), f"constraints.txt lacks {name}"


def test_the_constraints_keep_what_the_ranges_promise():
    for one in [*PROJECT["dependencies"], *(r for e in EXTRAS.values() for r in e)]:
        asked = Requirement(one)
        version = PINS.get(canonicalize_name(asked.name))
        assert version is None or asked.specifier.contains(version), one


def test_every_pinned_version_is_listed_with_its_licence():
    """`make third-party` writes the list; `make audit` checks that the licences are allowed."""
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (?!UNKNOWN)[^|]+ \|", text, re.M)
    assert {canonicalize_name(name): version for name, version in rows[1:]}.items() >= PINS.items()
