"""The embedded checkpoints, each an ordinary Hugging Face folder, and the recipes that made them.

`python -m encoderlab.zoo.train NAME` makes one again: `train` runs a recipe, `real_data` reads the
real pairs that are mixed in, `card` measures the result and writes its model card.
"""
