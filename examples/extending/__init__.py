"""Rows for our tables: one encoder, one metric, one command, one tab. Nothing heavy is imported.

PYTHONPATH=examples ENCODERLAB_EXTENSIONS=extending encoderlab spread
"""

from encoderlab.core import commands
from encoderlab.encoders import families
from encoderlab.metrics import catalogue
from encoderlab.web import tabs
from extending.spread import Spread

families.register("vit_mae", "extending.vit_mae:ViTMAE")

catalogue.register(
    "rsa",
    catalogue.Metric(
        title="RSA",
        meaning="whether pairs of samples that are far apart in one space are far in the other",
        blind="by how much: only the order of the distances counts",
        computed_by="extending.rsa:rsa",
    ),
)

commands.register(
    commands.Command(
        name="spread",
        spec=Spread,
        job="align",
        example="--encoders tiny-clip tiny-dinov2 --n-samples 30",
        experiment="extending.spread:run",
    )
)

tabs.register("spread", "extending.spread_tab")
