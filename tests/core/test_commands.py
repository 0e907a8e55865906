"""The table of commands is whole: experiments take what the settings offer, and nothing else."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import encoderlab
from encoderlab.core.commands import COMMANDS, JOBS, load
from encoderlab.core.common_settings import TALK, Common
from encoderlab.core.settings import from_dict, iter_settings
from encoderlab.core.spec import from_arguments
from encoderlab.errors import UsageError


@pytest.mark.parametrize("name", COMMANDS)
def test_python_function_has_the_settings_as_parameters(name):
    command = COMMANDS[name]
    function = load(command.experiment)
    assert function.settings is command.settings
    shown = inspect.signature(function).parameters
    assert set(shown) == {f.name for f in dataclasses.fields(command.settings)} - {
        *TALK, "output_dir"
    } | {"out"}  # fmt: skip
    documented = re.findall(r"^    (\w+):", inspect.getdoc(function).split("Args:")[1], re.M)
    assert set(shown) <= set(documented)


def test_arguments_become_settings():
    given = from_arguments(
        COMMANDS["tokens"].settings, {"model": "tiny-dinov2", "image": Path("a.png"), "seed": 3}
    )
    assert (given.model.name, given.image.path, given.seed) == ("tiny-dinov2", "a.png", 3)
    given = from_arguments(COMMANDS["compare"].settings, {"encoders": ("a", "b")})
    assert given.encoders == ["a", "b"]


def test_a_wrong_argument_is_refused_as_on_the_command_line():
    with pytest.raises(UsageError) as error:
        encoderlab.compare(n_samples=0)
    assert error.value.got == 0
    with pytest.raises(TypeError, match="sample_count"):
        encoderlab.compare(sample_count=3)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_a_job_a_summary_and_what_every_command_has(name):
    command = COMMANDS[name]
    assert command.job in JOBS and command.summary
    assert issubclass(command.settings, Common)
    keys = {setting.key for setting in iter_settings(command.settings)}
    assert {"seed", "offline", "json", "quiet", "verbose"} <= keys


@pytest.mark.parametrize("name", COMMANDS)
def test_no_flag_stands_for_two_settings(name):
    flags = [flag for setting in iter_settings(COMMANDS[name].settings) for flag in setting.flags]
    assert len(flags) == len(set(flags))


def test_settings_come_back_from_plain_values():
    tokens = COMMANDS["tokens"].settings
    again = from_dict(tokens, {"similarity": {"metric": "dot_product"}, "seed": 3})
    assert (again.similarity.metric, again.seed) == ("dot_product", 3)
    with pytest.raises(UsageError, match=r"Did you mean `similarity\.metric`") as error:
        from_dict(tokens, {"similarity": {"metrc": "cosine"}})
    assert error.value.got == "similarity.metrc"


@pytest.mark.parametrize(
    ("values", "got", "want"),
    [
        ({"batch_size": "*"}, "*", "a whole number"),
        ({"batch_size": 0}, 0, "at least 1"),
        ({"batch_size": True}, True, "a whole number"),
        ({"img_root": 1.5}, 1.5, "a text"),
        ({"csv": None}, "nothing", "a text"),
        ({"quiet": {"quiet": True}}, {"quiet": True}, "true or false"),
        ({"backend": "x"}, "x", "one of torch, "),
        ([], [], "a value by each name"),
    ],
)
def test_plain_values_of_another_kind_are_no_settings(values, got, want):
    from encoderlab.contrastive.evaluate_settings import Evaluate

    with pytest.raises(UsageError) as error:
        from_dict(Evaluate, values)
    assert error.value.got == got and error.value.want.startswith(want)


def test_every_commands_own_defaults_come_back_from_plain_values():
    for command in COMMANDS.values():
        own = command.settings()
        assert from_dict(command.settings, dataclasses.asdict(own)) == own
