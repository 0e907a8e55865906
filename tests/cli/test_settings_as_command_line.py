"""A command line made of settings gives the same settings when it is typed."""

import dataclasses
import shlex

import pytest

from encoderlab.alignment.settings import Compare, Embedding
from encoderlab.compression.settings import Compress, CompressEvaluation, CompressPicture
from encoderlab.core.command_line import command_line
from encoderlab.core.commands import COMMANDS
from encoderlab.core.settings import from_dict
from encoderlab.inspection.settings import Image, Similarity, Tokens
from encoderlab.retrieval.settings import Search

CASES = [
    ("compare", Compare()),
    ("compare", Compare(encoders=["tiny-clip"], n_samples=7, controls=True, seed=3)),
    ("embedding", Embedding(method="pca", data_root="synthetic", data_types=["chart", "table"])),
    ("search", Search(query="a red circle", k=3)),
    ("search", Search(query="--html=x and 'quotes' \"too\"", db="my index")),
    ("search", Search(query="a=b")),
    ("search", Search(query="붉은 원, ${oops}", where="caption LIKE '%d%'")),
    ("tokens", Tokens(image=Image("my cat.jpg"), similarity=Similarity(metric="dot_product"))),
    ("compress", Compress(action="show", evaluation=CompressEvaluation(grids=[4, 3]),
                          picture=CompressPicture("a b.png"))),
    ("all", from_dict(COMMANDS["all"].settings, {"controls": False})),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given"), CASES)
def test_typed_line_gives_the_same_settings(name, given, settings):
    words = shlex.split(command_line(COMMANDS[name], given))
    assert words[:2] == ["encoderlab", name]
    again = settings(*words[1:])
    assert again == {**dataclasses.asdict(given), "json": True}  # the fixture asks in JSON


def test_defaults_are_not_said():
    assert command_line(COMMANDS["compare"], Compare()) == "encoderlab compare"
    assert command_line(COMMANDS["compare"], Compare(n_samples=5), ["n_samples"]) == (
        "encoderlab compare"
    )
