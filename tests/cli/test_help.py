"""Help is complete, comes from the settings, is quick, and loads nothing heavy."""

import subprocess
import sys
import time

import pytest

from encoderlab.cli.parser import parse
from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import iter_settings

HEAVY = ("torch", "numpy", "transformers", "lightning", "hydra", "lancedb", "PIL", "pyarrow")


def test_overview_names_every_command(lab):
    said = lab("--help")
    assert said.code == 0
    assert all(f"  {name} " in said.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_names_every_setting_and_its_default(name, lab):
    said = lab(name, "--help")
    assert said.code == 0
    for setting in iter_settings(COMMANDS[name].settings):
        shown = setting.flags[0] if setting.flags else f"{setting.key}=..."
        assert shown in said.out, setting.key
    assert f"encoderlab {name} {COMMANDS[name].example}".rstrip() in said.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_says_what_it_is(name):
    for setting in iter_settings(COMMANDS[name].settings):
        assert setting.help, setting.key


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_right(name):
    import shlex

    parse(COMMANDS[name], shlex.split(COMMANDS[name].example))


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_flags(shell, lab):
    said = lab("completion", shell)
    assert said.code == 0, said.err
    assert "multi-llm" in said.out and "n-samples" in said.out


def test_version(lab):
    from encoderlab import __version__

    assert lab("--version").out == f"encoderlab {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help_loads_nothing_heavy_and_answers_at_once(words):
    program = (
        "import sys\nfrom encoderlab.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        clock = time.perf_counter()
        said = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - clock)
        assert said.stdout.splitlines()[-1] == "loaded: []"
    # 0.3 s is promised; other tests may be using the cores at the same time.
    assert min(seconds) < 0.6, seconds


def test_the_light_import_test_can_fail():
    """The same question about a module that does load numpy has another answer."""
    program = f"import sys, numpy\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "numpy" in said.stdout


def test_module_and_command_are_the_same(tmp_path):
    said = subprocess.run(
        [sys.executable, "-m", "encoderlab", "corl"], capture_output=True, text=True, cwd=tmp_path
    )
    assert said.returncode == 2 and "Did you mean 'coral'?" in said.stderr
