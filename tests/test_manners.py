"""What a project owes those who come to it: a citation, templates, hooks, types."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import encoderlab

ROOT = Path(__file__).parent.parent
SOURCES = Path(encoderlab.__file__).parents[1]
FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))

# -- citation ------------------------------------------------------------------------------------


@pytest.fixture
def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_has_the_codes_version_and_licence(citation):
    assert citation["version"] == encoderlab.__version__
    assert citation["license"] == "MIT"
    assert "MIT License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_citation_is_as_cff_1_2_asks(citation):
    """Its schema, as far as it concerns what we say: required keys, and no unknown one."""
    assert citation["cff-version"] == "1.2.0"
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    known = {
        "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi",
        "identifiers", "keywords", "license", "license-url", "message", "preferred-citation",
        "references", "repository", "repository-artifact", "repository-code", "title", "type",
        "url", "version",
    }  # fmt: skip
    assert set(citation) <= known
    assert citation["type"] in ("software", "dataset")
    assert all(isinstance(citation[k], str) and citation[k] for k in ("message", "title"))
    assert all(set(one) <= {"name", "website", "email"} for one in citation["authors"])
    assert len(set(citation["keywords"])) == len(citation["keywords"])


# -- templates -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [one for one in FORMS if one.name != "config.yml"], ids=str)
def test_an_issue_form_is_one_that_can_be_filled_in(form):
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert content["name"] and content["description"]
    ids = [part["id"] for part in content["body"] if part["type"] != "markdown"]
    assert len(ids) == len(set(ids)) >= 3
    for part in content["body"]:
        assert part["type"] in ("input", "textarea", "dropdown", "checkboxes", "markdown")
        assert part["attributes"]["label"]
    assert any(part.get("validations", {}).get("required") for part in content["body"])


def test_a_bug_report_asks_for_what_doctor_says_and_a_wrong_number_for_its_source():
    forms = {one.stem: one.read_text(encoding="utf-8") for one in FORMS}
    assert set(forms) == {"bug", "wrong_number", "feature", "config"}
    assert "encoderlab doctor --json" in forms["bug"]
    assert "Which number?" in forms["wrong_number"] and "from where" in forms["wrong_number"]


# -- before a commit -----------------------------------------------------------------------------


def test_the_hooks_need_no_network_and_run_what_make_check_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}
    entries = " ".join(hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"])
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("check:")[2]
    checks = [line.split("/")[-1].split()[0] for line in recipe.split("\n\n")[0].splitlines()[1:]]
    tools = [one for one in checks if one in ("ruff", "mypy", "lint-imports")]
    assert {"ruff", "mypy", "lint-imports"} == set(tools)
    assert all(tool in entries for tool in tools)


# -- types ---------------------------------------------------------------------------------------

# What mypy need not look into to know our own names: it would take a minute.
FAR = (
    "torch", "transformers", "lightning", "scipy", "sklearn", "matplotlib", "PIL", "lancedb",
    "pyarrow", "rich", "tokenizers", "safetensors", "huggingface_hub", "jinja2",
)  # fmt: skip
PROGRAM = """
import numpy as np

import encoderlab

encoder = encoderlab.load_vision("tiny-clip")
width: int = encoder.width
result = encoderlab.compare(encoders=["tiny-clip"], n_samples=3)
best: str = result.answer
score = encoderlab.cka(np.eye(4), np.eye(4))
hits = encoderlab.search(query="a red circle", k=3)
index = encoderlab.Index.open("my-index")
version: str = encoderlab.__version__
"""
MISTAKES = {
    "encoderlab.load_vision(3.5)": 'Argument 1 to "load_vision" has incompatible type "float"',
    "encoderlab.compare(n_sample=3)": 'Unexpected keyword argument "n_sample"',
    "width = encoderlab.load_vision('a').widht": '"VisionEncoder" has no attribute "widht"',
    "encoderlab.load_visoin('a')": 'has no attribute "load_visoin"',
}


def check_types(program: str, folder: Path, sources: Path = SOURCES) -> str:
    """What mypy says of a user's program, with the package among the installed ones."""
    import os

    (folder / "user.py").write_text(program)
    far = ",".join(f"{name}.*" for name in FAR)
    (folder / "mypy.ini").write_text(
        f"[mypy]\nstrict = true\n[mypy-{far}]\nfollow_imports = skip\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "user.py"],
        capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(sources)},
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.slow
def test_public_names_have_types_for_a_users_program(tmp_path):
    said = check_types(PROGRAM + "\n".join(MISTAKES), tmp_path)
    first = len(PROGRAM.splitlines()) + 1
    lines = [line for line in said.splitlines() if ": error:" in line]
    mistakes = [line for line in lines if int(line.split(":")[1]) >= first]
    for line, expected in zip(mistakes, MISTAKES.values(), strict=True):
        assert expected in line
    assert [line for line in lines if line not in mistakes] == []


def test_without_its_marker_the_package_would_have_no_types(tmp_path):
    """What py.typed is there for: the same question about a package that lacks it."""
    bare = tmp_path / "site/another"
    bare.mkdir(parents=True)
    (bare / "__init__.py").write_text("width: int = 3\n")
    asked = "import another\nwidth: str = another.width\n"
    assert "missing library stubs or py.typed" in check_types(asked, tmp_path, bare.parent)
    (bare / "py.typed").touch()
    assert "Incompatible types in assignment" in check_types(asked, tmp_path, bare.parent)
