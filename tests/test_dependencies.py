"""What we stand on: declared, explained, pinned, used; its licence known, its weaknesses too."""

from __future__ import annotations

import ast
import datetime
import http.server
import json
import re
import sys
import threading
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from scripts import audit, licences

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
    "import-linter": "importlinter",
}  # fmt: skip
# Imported nowhere in our code: a library of ours imports it when it is asked for by name.
BY_NAME = {
    "tensorboard": "Lightning's logger", "accelerate": "transformers' device_map",
    "bitsandbytes": "transformers' quantisation", "wandb": "Lightning's logger",
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


USERS = [extra for extra in EXTRAS if extra not in licences.TOOLS]


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
    pins = {canonicalize_name(name) for name in licences.pins()}
    for extra in [None, *EXTRAS]:
        for name in declared(extra) if extra else declared():
            assert re.search(rf"\b{re.escape(name)}\b", reasons), f"no reason for {name}"
            # Storages come with fsspec's own pins; which one is wanted, the machine decides.
            assert name in pins or extra in ("s3", "gs", "az"), f"constraints.txt lacks {name}"


def test_the_constraints_keep_what_the_ranges_promise():
    pins = {canonicalize_name(name): version for name, version in licences.pins().items()}
    for one in [*PROJECT["dependencies"], *(r for e in EXTRAS.values() for r in e)]:
        asked = Requirement(one)
        version = pins.get(canonicalize_name(asked.name))
        assert version is None or asked.specifier.contains(version), one


# -- licences ------------------------------------------------------------------------------------


def test_every_licence_is_allowed_and_the_list_is_up_to_date(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["licences.py"])
    assert licences.main() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True), ("BSD License", True), ("GPL-3.0-only", False), ("AGPL-3.0-only", False),
        ("MIT AND GPL-2.0-or-later", False), ("GPL-2.0-or-later OR MIT", True),
        ("Apache-2.0 WITH LLVM-exception AND BSD-3-Clause", True), ("LGPL-3.0-only", False),
        ("MIT AND (GPL-3.0-only OR BSD-3-Clause)", False), ("MPL-2.0", False), ("", False),
    ],
)  # fmt: skip
def test_a_licence_is_allowed_by_what_it_asks(expression, allowed):
    row = ("some-package", "1.0", expression, "always")
    assert (licences.not_allowed(row) is None) == allowed


def test_an_exception_is_for_one_package_and_has_a_reason():
    assert licences.not_allowed(("certifi", "1", "MPL-2.0", "web")) is None
    assert "MPL-2.0 is not on the list" in (licences.not_allowed(("x", "1", "MPL-2.0", "")) or "")
    assert all(why for packages in licences.EXCEPTIONS.values() for why in packages.values())


def test_a_list_that_is_out_of_date_is_noticed():
    made = [("a", "1", "MIT", "always"), ("b", "2", "MIT", "web")]
    before = licences.listed(licences.page([("a", "1", "ISC", "always"), ("c", "3", "MIT", "")]))
    said = " ".join(licences.out_of_date(before, made))
    assert "says 1 ISC of a, and it is 1 MIT" in said
    assert "lacks b 2" in said
    assert licences.out_of_date(licences.listed(licences.page(made)), made) == []


@pytest.mark.parametrize(
    ("said", "expression"),
    [
        ({"License-Expression": "MIT"}, "MIT"),
        ({"License": "Apache 2"}, "Apache-2.0"),
        ({"License": "Copyright (c) 2015, someone", "Classifier": ["License :: OSI Approved :: "
          "BSD License"]}, "BSD License"),
        ({"License": "BSD-3-Clause", "Classifier": ["License :: OSI Approved :: BSD License"]},
         "BSD-3-Clause"),
        ({"License": "UNKNOWN", "Classifier": ["License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"License": "ask the author"}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_what_a_package_says_of_its_licence_is_understood(said, expression):
    from email.message import Message

    about = Message()
    for field, value in said.items():
        for one in value if isinstance(value, list) else [value]:
            about[field] = one
    assert licences.licence(about) == expression


# -- weaknesses ----------------------------------------------------------------------------------


@pytest.fixture
def service():
    """A service of vulnerabilities that knows one, of one package."""

    class Service(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = {"id": "GHSA-test-test-test", "summary": "It opens everything.",
                     "aliases": ["CVE-2020-0001"], "affected": [{"package": {
                         "ecosystem": "PyPI", "name": "rich"}, "ranges": [{
                             "type": "ECOSYSTEM", "events": [{"introduced": "0"},
                                                             {"fixed": "99.0"}]}]}]}  # fmt: skip
            answer = {"vulns": [known]} if asked["package"]["name"] == "rich" else {}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said):
            """Keeps the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    server.server_close()


@pytest.fixture
def looked_up(tmp_path, capsys):
    """Runs the audit of some pins, with some text as the list of ignored ones."""

    def run(pins: str, url: str, ignored: str = "") -> tuple[int, str]:
        (tmp_path / "pins.txt").write_text(pins)
        (tmp_path / "ignored.toml").write_text(ignored)
        words = ["--constraints", str(tmp_path / "pins.txt"), "--osv-url", url]
        code = audit.main([*words, "--ignored", str(tmp_path / "ignored.toml")])
        return code, capsys.readouterr().out

    return run


IGNORED = '[[ignored]]\nid = "{id}"\nreason = "never called"\nuntil = {until}\n'
LATER = datetime.date.today() + datetime.timedelta(days=9)
BEFORE = datetime.date.today() - datetime.timedelta(days=1)


def test_a_known_weakness_fails(service, looked_up):
    pytest.importorskip("pip_audit")
    code, said = looked_up("rich==15.0.0\nshtab==1.13.0\n", service)
    assert code == 1
    assert "rich 15.0.0: GHSA-test-test-test" in said or "rich 15.0.0: CVE-2020-0001" in said
    assert "2 packages, 1 known weaknesses" in said


def test_nothing_known_passes(service, looked_up):
    pytest.importorskip("pip_audit")
    assert looked_up("shtab==1.13.0\n", service) == (
        0, "audited by osv: 1 packages, 0 known weaknesses\n",
    )  # fmt: skip


def test_an_ignored_weakness_passes_with_its_reason_until_its_day(service, looked_up):
    pytest.importorskip("pip_audit")
    code, said = looked_up(
        "rich==15.0.0\n", service, IGNORED.format(id="CVE-2020-0001", until=LATER)
    )
    assert code == 0 and f"ignored until {LATER}: never called" in said
    code, said = looked_up(
        "rich==15.0.0\n", service, IGNORED.format(id="CVE-2020-0001", until=BEFORE)
    )
    assert code == 1 and f"was ignored until {BEFORE}: look again" in said


def test_a_service_that_is_not_there_is_no_success(looked_up):
    code, said = looked_up("rich==15.0.0\n", "http://127.0.0.1:9/v1/query")
    assert code == audit.NOT_AUDITED
    assert said.startswith("not audited: no service") and said.count("\n") == 1


def test_a_service_that_knows_no_package_is_no_success(monkeypatch, looked_up):
    """A mirror of an index answers so, and pip-audit ends with 0."""
    import subprocess

    skipped = {"dependencies": [{"name": "rich", "skip_reason": "not found"}], "fixes": []}
    answer = subprocess.CompletedProcess([], 0, json.dumps(skipped), "")
    monkeypatch.setattr(audit, "find_spec", lambda name: object())
    monkeypatch.setattr(audit.subprocess, "run", lambda *a, **k: answer)
    code, said = looked_up("rich==15.0.0\n", "http://127.0.0.1:9/v1/query")
    assert code == audit.NOT_AUDITED and "it knows none of 1 packages" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[ignored]]\nid = "X"\nuntil = 2030-01-01\n', "needs an id and a reason"),
        ('[[ignored]]\nid = "X"\nreason = "r"\n', "X needs a day"),
        ('[[ignored]]\nid = "X"\nreason = "r"\nuntil = "soon"\n', "X needs a day"),
        ("[[ignored]\n", "ignored.toml: "),
    ],
)
def test_a_list_of_ignored_ones_without_reason_or_day_is_refused(text, said, looked_up):
    code, told = looked_up("rich==15.0.0\n", "http://127.0.0.1:9/v1/query", text)
    assert code == audit.WRONG and said in told


def test_our_own_list_of_ignored_ones_is_as_it_must_be():
    assert all(one.until >= datetime.date.today() for one in audit.read_ignored(audit.IGNORED))
