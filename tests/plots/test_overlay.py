"""Maps over images as plain pictures."""

from __future__ import annotations

import matplotlib
import numpy as np
from PIL import Image

from encoderlab.plots.overlay import heat, overlaid

MAP = np.array([[0.0, 0.5], [0.25, 1.0]])


def test_each_patch_is_a_square_of_its_colour():
    made = np.asarray(heat(MAP, (20, 10)))
    assert made.shape == (10, 20, 3)
    for i in (0, 1):
        for j in (0, 1):
            square = made[i * 5 : (i + 1) * 5, j * 10 : (j + 1) * 10].reshape(-1, 3)
            expected = matplotlib.colormaps["viridis"](MAP[i, j], bytes=True)[:3]
            assert (square == expected).all()


def test_a_constant_map_and_one_beyond_the_scale_are_drawn():
    assert np.ptp(np.asarray(heat(np.ones((3, 3)), (9, 9)))) >= 0
    inside = np.asarray(heat(MAP * 4 - 1, (2, 2), low=0.0, high=1.0))
    ends = [matplotlib.colormaps["viridis"](end, bytes=True)[:3] for end in (0.0, 1.0)]
    assert tuple(inside[0, 0]) == tuple(ends[0]) and tuple(inside[1, 1]) == tuple(ends[1])


def test_the_marked_patch_has_a_light_frame():
    view = Image.new("RGB", (40, 40), "black")
    made = np.asarray(overlaid(view, MAP, mark=(1, 0)))
    assert tuple(made[20, 10]) == (255, 255, 255)
    assert tuple(made[5, 30]) != (255, 255, 255)
