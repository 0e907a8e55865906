"""The synthetic world: generated pictures of five kinds, with captions in English and Korean.

`world` has `generate`; `scene`, `chart`, `table`, `document` and `math_problem` draw one kind each
on a `canvas` and describe it with `words`; `write` and `example` write data sets to disk.
"""

from encoderlab.data.synthetic.item import SyntheticItem
from encoderlab.data.synthetic.world import KINDS, Rendered, generate, render_arrays
from encoderlab.data.synthetic.write import write_dataset

__all__ = ["KINDS", "Rendered", "SyntheticItem", "generate", "render_arrays", "write_dataset"]
