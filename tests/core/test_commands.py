"""The table of commands is whole: experiments take what the settings offer, and nothing else."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from encoderlab.core.commands import COMMANDS, JOBS, load
from encoderlab.core.common_settings import TALK, Common
from encoderlab.core.settings import from_dict, iter_settings
from encoderlab.errors import UsageError


@pytest.mark.parametrize("name", COMMANDS)
def test_experiment_takes_exactly_the_settings(name):
    command = COMMANDS[name]
    parameters = inspect.signature(load(command.experiment)).parameters
    offered = {one.name for one in dataclasses.fields(command.settings)} - {*TALK, "output_dir"}
    if [one.key for one in iter_settings(command.settings) if one.key.startswith("output.")] == [
        "output.dir"
    ]:
        offered -= {"output"}  # the folder, and nothing that an experiment decides by
    assert set(parameters) - {"out", "seed"} == offered - {"seed"}
    assert "out" in parameters


@pytest.mark.parametrize("name", COMMANDS)
def test_python_and_command_line_have_the_same_defaults(name):
    parameters = inspect.signature(load(COMMANDS[name].experiment)).parameters
    for setting in iter_settings(COMMANDS[name].settings):
        given = parameters.get(setting.key)
        if given is not None and given.default is not inspect.Parameter.empty:
            theirs = list(given.default) if isinstance(given.default, tuple) else given.default
            assert (theirs or None) == (setting.default or None), setting.key


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
    with pytest.raises(UsageError, match=r"no such key: got 'similarity\.metrc'"):
        from_dict(tokens, {"similarity": {"metrc": "cosine"}})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"batch_size": "*"}, r"batch_size: got '\*'; expected a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": True}, "batch_size: got True"),
        ({"img_root": 1.5}, "img_root: got 1.5; expected a text"),
        ({"csv": None}, "csv: got 'nothing'"),
        ({"quiet": {"quiet": True}}, "quiet: got .*; expected true or false"),
        ({"backend": "x"}, "backend: got 'x'; expected one of torch"),
        ([], "the settings are no table"),
    ],
)
def test_plain_values_of_another_kind_are_no_settings(values, says):
    from encoderlab.contrastive.evaluate_settings import Evaluate

    with pytest.raises(UsageError, match=says):
        from_dict(Evaluate, values)


def test_every_commands_own_defaults_come_back_from_plain_values():
    for command in COMMANDS.values():
        own = command.settings()
        assert from_dict(command.settings, dataclasses.asdict(own)) == own
