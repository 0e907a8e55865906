"""Each mistake gets its exit code, the thing's name, and what to do next; never a traceback."""

import shlex

import pytest
from hydra.errors import MissingConfigException

from encoderlab.cli import errors
from encoderlab.core.commands import COMMANDS
from encoderlab.errors import MissingError

MISTAKES = [
    ("corl", "Did you mean 'coral'?"),
    ("--epochs 3", "a command comes first"),
    ("coral n_sample=3", "Did you mean `n_samples`?"),
    ("coral --encodrs clip", "Did you mean `--encoders`?"),
    ("coral --n_samples 3", "Did you mean `--n-samples`?"),
    ("train --epochs ten", "a whole number"),
    ("train epochs=ten", "a whole number"),
    ("train epochs=[1,2]", "a whole number"),
    ("train --lr fast", "a number"),
    ("train --lr", "--lr needs a value"),
    ("train --lr --epochs 3", "--lr needs a value"),
    ("train --epochs 0", "at least 1"),
    ("train --epochs -3", "at least 1"),
    ("train --ema nan", "no number"),
    ("train --grad-checkpointing=perhaps", "true or false"),
    ("train --loss softmx", "Did you mean 'softmax'?"),
    ("train epochs=1,2", "--multirun"),
    ("train -m epochs=1,two", "a whole number"),
    ("train classes=a", "unknown setting"),
    ("train +clases=a", "unknown setting"),
    ("train extra", "extra"),
    ("coral encoders=clip,siglip", "key=[a,b]"),
    ("coral 'encoders=[clip'", "cannot be read"),
    ("speed --batch-sizes 1 two", "a whole number"),
    ("speed --batch-sizes 1 0", "at least 1"),
    ("tokens model.nam=x", "Did you mean `model.name`?"),
    ("search a -k 0", "at least 1"),
    ("train --image-encoder resnet --patch-size 16", "--patch-size has no effect"),
    ("train --image-encoder resnet --vision-layers 2", "image_encoder=vit"),
    ("train --image-encoder resnet --patch-dropout 0.5", "--patch-dropout has no effect"),
    ("train --tokenizer folder --vocab-size 300", "tokenizer=bpe or tokenizer=char"),
    ("train --wandb-project mine", "logger=wandb"),
    ("train --wandb-project mine --logger none", "logger=wandb"),
    ("index photos --recall 0.9", "ann=true"),
    ("index photos --recall 0.95", "ann=true"),
    ("features ls --encoders tiny-clip", "action=extract"),
    ("features verify photos", "action=extract or action=delete"),
    ("features delete all --batch-size 8", "action=extract"),
    ("features extract photos --workers 2", "engine=ray"),
    ("stream pairs.tar --workers 2", "engine=ray"),
    ("e2e --scores mine.csv --epochs 10", "scores=null"),
    ("tokens output.save_visualizations=false output.dpi=300", "output.dpi has no effect"),
    ("tokens output.save_visualizations=false visualization.cmap=hot", "has no effect"),
    ("search two words", "in quotes"),
    ("ls encoder", "Did you mean 'encoders'?"),
    ("train hydra/launcher=jobli -m epochs=1,2", "hydra/launcher"),
    ("train --cfg job -m epochs=1,2", "--multirun"),
    ("completion powershell", "bash"),
    ("coral --info nonsense", "one of all, config"),
    ("coral --cfg --json", "--cfg needs a value"),
    ("coral --config-dir", "--config-dir needs a value"),
    ("coral seed=" + "9" * 5000, "the configuration cannot be read"),
    ("ls +hydra.callbacks.x._target_=pathlib.Path", "names code to run"),
    ("ls -m what=llms hydra.launcher._target_=pathlib.Path", "names code to run"),
]
MISSING = [
    ("tokens --config-name=my_confg", "my_confg"),
    ("train --config-dir nowhere", "nowhere"),
    ("rerun nowhere", "no such folder"),
]


@pytest.mark.parametrize(("line", "says"), MISTAKES)
def test_wrong_words_exit_2(line, says, lab, tmp_path):
    answer = lab(*shlex.split(line))
    assert answer.code == 2, answer.err
    assert answer.err.startswith("encoderlab: error: ") and says in answer.err
    assert "Traceback" not in answer.err and "hydra." not in answer.err.replace("hydra.run", "")
    assert answer.out == ""
    assert not [
        path for path in tmp_path.rglob("*") if path.name != "multirun.yaml" and path.is_file()
    ]


@pytest.mark.parametrize(("line", "says"), MISSING)
def test_missing_things_exit_3(line, says, lab):
    answer = lab(*shlex.split(line))
    assert answer.code == 3 and says in answer.err, answer.err


def test_an_error_is_drawn_in_four_parts(lab):
    lines = lab("train", "--loss", "softmx").err.splitlines()
    assert lines == [
        "encoderlab: error: unknown value for --loss",
        "  got:       'softmx'",
        "  expected:  one of softmax, sigmoid",
        "  next:      Did you mean 'softmax'? List them: encoderlab train --help",
    ]


@pytest.mark.parametrize(
    ("launcher", "says"), [("ray", "docs/en/clusters.md"), ("rq", "pip install hydra-rq-launcher")]
)
def test_a_launcher_that_is_not_installed_says_how_to_install_it(launcher, says, lab):
    answer = lab("train", f"hydra/launcher={launcher}", "-m", "epochs=1,2")
    assert answer.code == 3 and says in answer.err, answer.err


def test_the_launchers_of_an_extra_name_the_extra():
    missing = MissingConfigException("", "hydra/launcher/joblib", ["basic"])
    said = errors.explain_configuration_error(missing, COMMANDS["train"])
    assert isinstance(said, MissingError) and 'pip install "encoderlab[sweep]"' in str(said)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"seed: [1\n", "cannot be read"),
        (b"seed: 1\n\tx: 2\n", "cannot be read"),
        (b"seed: \x00\n", "cannot be read"),
        (b"seed: 1\nseed: 2\n", "cannot be read"),
        (b"seed: \xff\n", "cannot be read"),
        (b"x: " + b"[" * 5000, "cannot be read"),
        (b"seed: " + b"9" * 5000, "cannot be read"),
        (b"hydra: {callbacks: {x: {_target_: pathlib.Path}}}\n", "names code to run"),
    ],
)
def test_a_yaml_of_ones_own_that_is_none_exits_2(content, says, lab, tmp_path):
    (tmp_path / "own.yaml").write_bytes(content)
    answer = lab("ls", "--config-dir", ".", "--config-name", "own")
    assert answer.code == 2 and says in answer.err, answer.err


def test_a_yaml_without_hydras_sweeper_exits_2(lab, tmp_path):
    (tmp_path / "own.yaml").write_text("seed: 1\nhydra: {sweeper: null}\n")
    answer = lab("ls", "--config-dir", ".", "--config-name", "own", "-m", "seed=1,2")
    assert answer.code == 2 and "hydra/sweeper=NAME" in answer.err, answer.err
