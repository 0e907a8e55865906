"""Completion as a shell does it: the shell itself reads the script and completes words."""

import shutil
import subprocess
import sys

import pytest

from encoderlab.cli.completion import SHELLS
from encoderlab.core.commands import COMMANDS

SECOND_VALUE = "compare --encoders tiny-clip si"
# What stands on the line, the last word being completed -> what must be offered, and what must not.
LINES = [
    ("co", {"compare", "coral", "compress", "completion"}, {"all"}),
    ("ls e", {"encoders"}, {"llms"}),
    ("compare --enc", {"--encoders"}, {"--epochs"}),
    ("compare --encoders tiny", {"tiny-clip", "tiny-siglip", "tiny-dinov2"}, {"tiny-llama"}),
    (SECOND_VALUE, {"siglip"}, {"tiny-clip"}),
    ("compare --llms tiny-clip --llms q", {"qwen"}, {"tiny-qwen"}),
    ("tokens --metric ", {"cosine", "dot_product"}, set()),
    ("embedding --method ", {"tsne", "umap", "pca"}, set()),
    ("export tiny-c", {"tiny-clip"}, set()),
    ("all --no-c", {"--no-controls"}, set()),
    ("completion ", set(SHELLS), set()),
]
DRIVERS = {
    "bash": """
source {script}
read -ra COMP_WORDS <<< "encoderlab {line}"
[[ -z "{line}" || "{line}" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
function=$(complete -p encoderlab | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    "fish": "source {script}; complete -C 'encoderlab {line}'",
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The scripts of all shells, each as the command prints it."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        done = subprocess.run(
            [sys.executable, "-m", "encoderlab", "completion", shell],
            capture_output=True, text=True, check=True, cwd=folder,
        )  # fmt: skip
        (folder / shell).write_text(done.stdout, encoding="utf-8")
    return folder


def offered(shell: str, scripts, line: str) -> set[str]:
    """What a shell offers for the last word."""
    start = {"bash": ["bash", "--norc", "-c"], "fish": ["fish", "--no-config", "-c"]}[shell]
    program = DRIVERS[shell].format(script=scripts / shell, line=line)
    done = subprocess.run(
        [*start, program], capture_output=True, text=True, cwd=scripts, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return {one.partition("\t")[0] for one in done.stdout.splitlines() if one}


@pytest.mark.parametrize("shell", DRIVERS)
@pytest.mark.parametrize(("line", "there", "not_there"), LINES)
def test_a_shell_offers_what_may_follow(shell, line, there, not_there, scripts):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    if shell == "fish" and line == SECOND_VALUE:
        pytest.skip("shtab's script for fish completes the first of several values only")
    found = offered(shell, scripts, line)
    assert there <= found, found
    assert not not_there & found


def test_bash_offers_every_command_and_every_flag(scripts):
    assert {name.split()[0] for name in COMMANDS} <= offered("bash", scripts, "")
    assert {"train", "evaluate", "answer"} <= offered("bash", scripts, "vlm ")
    flags = offered("bash", scripts, "compare --")
    assert {"--n-samples", "--json", "--multirun", "--config-dir"} <= flags
    assert {"--encoder", "--json"} <= offered("bash", scripts, "vlm train --")


def test_bash_offers_files_where_a_file_is_wanted(scripts):
    (scripts / "photos").mkdir()
    (scripts / "pairs.csv").touch()
    assert offered("bash", scripts, "evaluate --csv p") == {"pairs.csv", "photos"}
    assert offered("bash", scripts, "evaluate --output-dir p") == {"photos"}


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_a_shell_takes_the_script(shell, scripts):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "-f", "-n", str(scripts / shell)], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_every_shell_knows_names_and_choices(shell, scripts):
    script = (scripts / shell).read_text(encoding="utf-8")
    for word in ("multi-llm", "n-samples", "tiny-dinov2", "dot_product", "verify"):
        assert word in script, word


def test_aliases_of_ones_own_are_offered(tmp_path, monkeypatch, lab):
    (tmp_path / "encoderlab-aliases.yaml").write_text("encoders: {my-encoder: someone/somewhere}\n")
    assert "my-encoder" in lab("completion", "bash").out


def test_how_to_install_it_is_said(lab):
    answer = lab("completion", "--help")
    assert answer.code == 0
    assert all(f"  {shell} " in answer.out for shell in SHELLS)
    assert 'eval "$(encoderlab completion bash)"' in answer.out
    wrong = lab("completion", "fsh")
    assert wrong.code == 2 and "Did you mean 'fish'?" in wrong.err
