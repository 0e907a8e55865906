"""Help is complete and comes from the settings. That it is quick: test_startup.py."""

import shlex
import subprocess
import sys

import pytest

from encoderlab.cli.parser import parse
from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import iter_settings


def test_overview_names_every_command(lab):
    answer = lab("--help")
    assert answer.code == 0
    assert all(f"  {name} " in answer.out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_names_every_setting_and_its_default(name, lab):
    answer = lab(name, "--help")
    assert answer.code == 0
    for setting in iter_settings(COMMANDS[name].settings):
        shown = setting.flags[0] if setting.flags else f"{setting.key}=..."
        assert shown in answer.out, setting.key
    assert f"encoderlab {name} {COMMANDS[name].example}".rstrip() in answer.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_says_what_it_is(name):
    for setting in iter_settings(COMMANDS[name].settings):
        assert setting.help, setting.key


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_right(name):
    parse(COMMANDS[name], shlex.split(COMMANDS[name].example))


def test_version(lab):
    from encoderlab import __version__

    assert lab("--version").out == f"encoderlab {__version__}\n"


def test_module_and_command_are_the_same(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "encoderlab", "corl"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2 and "Did you mean 'coral'?" in done.stderr
