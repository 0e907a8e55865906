"""The bundled checkpoints, each an ordinary Hugging Face folder.

How each is made again is in `recipes/` of a checkout.
"""

from pathlib import Path

ZOO = Path(__file__).parent
