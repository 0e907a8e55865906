"""How far apart the project's parts are: `make size` prints this and how many lines they have.

`--trace` also counts the functions that `compare` calls; it loads torch and runs the command once.
"""

import ast
import functools
import subprocess
import sys
import tempfile
import threading
import timeit
from pathlib import Path

import grimp

from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import iter_settings

ROOT = Path(__file__).resolve().parents[1]


def import_circles(package: str) -> list[list[str]]:
    """Modules that import each other, also in functions and under TYPE_CHECKING."""
    graph = grimp.build_graph(package, cache_dir=None)
    below = {module: graph.find_upstream_modules(module) for module in graph.modules}
    groups = {frozenset([m, *(o for o in below[m] if m in below[o])]) for m in below}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def repeated_defaults() -> int:
    """Parameters of functions in the job folders that are named like a setting and repeat its
    default, those of public classes included."""
    defaults: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for setting in iter_settings(command.settings):
            name = setting.key.rpartition(".")[2]
            defaults.setdefault(name, set()).add(repr(setting.default))
    folders = {command.experiment.split(".")[1] for command in COMMANDS.values()}
    files = (p for folder in folders for p in (ROOT / "src/encoderlab" / folder).rglob("*.py"))
    count = 0
    for node in (node for p in files for node in ast.walk(ast.parse(p.read_text("utf-8")))):
        if isinstance(node, ast.FunctionDef):
            given = node.args.args[len(node.args.args) - len(node.args.defaults) :]
            pairs = [*zip(given, node.args.defaults, strict=True)]
            pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            count += sum(
                value is not None and ast.unparse(value) in defaults.get(parameter.arg, ())
                for parameter, value in pairs
            )
    return count


def largest_function() -> tuple[int, str]:
    """Most parameters of a function in src, and its name."""
    trees = ((p.stem, ast.parse(p.read_text("utf-8"))) for p in (ROOT / "src").rglob("*.py"))
    every = ((s, n) for s, t in trees for n in ast.walk(t) if isinstance(n, ast.FunctionDef))
    return max((len(n.args.args + n.args.kwonlyargs), f"{s}.{n.name}") for s, n in every)


def seconds(*command: str) -> str:
    """The shortest of five runs."""
    words, quiet = [sys.executable, *command], {"stdout": subprocess.DEVNULL, "check": True}
    run = functools.partial(subprocess.run, words, **quiet)
    return f"{min(timeit.repeat(run, number=1)):.2f} s"


def called_by_compare() -> str:
    """Distinct functions of the package that run between two images of a type and the figures."""
    import encoderlab

    called = set()

    def note(frame, event, _):
        if frame.f_code.co_filename.startswith(encoderlab.__path__[0]) and event == "call":
            called.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    with tempfile.TemporaryDirectory() as out:
        threading.setprofile(note)
        sys.setprofile(note)
        names = {"encoders": ["tiny-clip"], "llms": ["tiny-llama"]}
        encoderlab.compare(n_samples=2, features_dir=out, out=Path(out), **names)
        sys.setprofile(None)
    named = [file for file, name in called if not name.endswith(">")]
    return f"{len(named)} in {len(set(named))} files"


if __name__ == "__main__":
    print(
        "defaults of settings written again:", repeated_defaults(), "(functions in the job folders)"
    )
    print("parameters of the largest function:", *largest_function(), "(ast)")
    print("import circles:", len(import_circles("encoderlab")), "(grimp)")
    print("time of `import encoderlab`:", seconds("-c", "import encoderlab"))
    print("time of `encoderlab --help`:", seconds("-m", "encoderlab", "--help"))
    if "--trace" in sys.argv:
        print("own functions between images and figures of compare:", called_by_compare())
