"""A setting can say which other setting it needs; given for nothing, it is refused."""

from dataclasses import dataclass

import pytest

import encoderlab
from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import check_effect, group, iter_settings, setting, without_effect
from encoderlab.errors import UsageError
from encoderlab.inspection.settings import Output, Visualization


@dataclass
class _Inner:
    steps: int = setting(5, "", needs={"loss": ("critic", "both")})
    weight: float = setting(1.0, "", needs={"ratio": ()})


@dataclass
class _Outer:
    loss: str = setting("none", "")
    ratio: float = setting(0.5, "")
    images: list[str] = setting([], "")
    drawn: int = setting(10, "", needs={"images": ([], "synthetic")})
    inner: _Inner = group(_Inner, needs={"loss": ("critic",)})


@pytest.mark.parametrize(
    ("settings", "without"),
    [
        (_Outer(), []),
        (_Outer(inner=_Inner(steps=6)), [("inner.steps", "loss")]),
        (_Outer(loss="both", inner=_Inner(steps=6)), []),  # its own needs, not its group's
        (_Outer(loss="both", inner=_Inner(weight=2)), [("inner.weight", "loss")]),
        (_Outer(loss="critic", ratio=0, inner=_Inner(6, 2)), [("inner.weight", "ratio")]),
        (_Outer(images=["a", "synthetic"], drawn=3), []),
        (_Outer(images=["a"], drawn=3), [("drawn", "images")]),
    ],
)
def test_a_setting_that_needs_another_is_without_effect_where_that_is_not_so(settings, without):
    assert [(one.key, key) for one, key in without_effect(settings)] == without


def test_the_default_counts_as_given_where_it_was_typed():
    assert [one.key for one, _ in without_effect(_Outer(), {"inner.steps"})] == ["inner.steps"]
    with pytest.raises(UsageError) as error:
        check_effect(_Outer(), {"inner.steps"})
    assert (error.value.got, error.value.want) == ("inner.steps=5 with loss=none",
                                                   "loss=critic or loss=both")  # fmt: skip


@pytest.mark.parametrize(
    ("run", "given", "names"),
    [
        (encoderlab.train, {"image_encoder": "resnet", "patch_size": 8}, "--patch-size"),
        (encoderlab.train, {"logger": "none", "wandb_project": "mine"}, "--wandb-project"),
        (encoderlab.index, {"recall": 0.5}, "--recall"),
        (encoderlab.features, {"encoders": ["clip"]}, "--encoders"),
        (encoderlab.stream, {"data": "pairs.tar", "workers": 2}, "--workers"),
        (encoderlab.e2e, {"scores": "mine.csv", "epochs": 3}, "--epochs"),
        (
            encoderlab.tokens,
            {
                "visualization": Visualization(cmap="hot"),
                "output": Output(save_visualizations=False),
            },
            "visualization.cmap",
        ),
    ],
)
def test_python_refuses_what_the_command_line_refuses(run, given, names):
    with pytest.raises(UsageError, match=f"{names} has no effect"):
        run(**given)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_setting_needs_is_a_setting_of_the_command(name):
    settings = {one.key: one for one in iter_settings(COMMANDS[name].settings)}
    for one in settings.values():
        for key, values in one.needs.items():
            choices = settings[key].choices
            assert not choices or set(values) <= set(choices), (one.key, key)
