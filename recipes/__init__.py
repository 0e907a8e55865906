"""How the bundled checkpoints are made, from a checkout with the package installed.

`python -m recipes.train NAME` makes one again: `settings` holds its shape and schedule, `real_data`
reads the real pairs that are mixed in, `card` measures the result and writes its model card.
"""
