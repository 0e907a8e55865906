"""One row for each of our tables: encoder, metric, token reduction method, command, tab.

Nothing heavy is imported.

PYTHONPATH=examples ENCODERLAB_EXTENSIONS=extending encoderlab spread
"""

from encoderlab.core import commands
from encoderlab.encoders import families
from encoderlab.metrics import catalogue
from encoderlab.patch_tokens import methods
from encoderlab.web import tabs
from extending.spread import Spread

families.register("vit_mae", "extending.vit_mae:ViTMAE")
families.register("small_cnn", "extending.cnn:SmallCNNEncoder")

catalogue.register(
    "rsa",
    catalogue.Metric(
        title="RSA",
        meaning="whether pairs of samples that are far apart in one space are far in the other",
        blind="by how much: only the order of the distances counts",
        computed_by="extending.rsa:rsa",
    ),
)

methods.register(
    "largest_norm",
    methods.Method("tokens with the largest norm", "extending.largest_norm:LargestNorm"),
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
