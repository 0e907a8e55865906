"""Recipes of the bundled checkpoints, for a checkout with the package installed.

`python -m recipes.train NAME` trains one: `settings` holds its shape and schedule, `real_data`
reads the real pairs that are mixed in, `card` measures the result and writes its model card.
"""
