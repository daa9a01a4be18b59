"""One class, one colour; and colours that can be told apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from bigr_features.plots import class_styles
from bigr_features.plots.colors import COLORS, GREY, MARKERS

# full dichromacy in linear RGB: Machado, Oliveira & Fernandes, IEEE TVCG 2009, table of severity 1.0
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(color: str, vision: str) -> np.ndarray:
    """CIELAB (D65) of a colour as seen with a kind of vision."""
    rgb = np.array(to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.asarray(VISION[vision]) @ linear, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.asarray(to_xyz) @ linear / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colours_can_be_told_apart(vision):
    for one, other in itertools.combinations(COLORS, 2):
        assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 16, (one, other)


def test_ten_colours_and_ten_markers():
    assert len(set(COLORS)) == len(set(MARKERS)) == len(COLORS) == len(MARKERS) == 10


def test_a_class_keeps_its_colour_whatever_is_in_the_plot():
    names = [f"class {i}" for i in range(10)]
    everything, some = class_styles(np.arange(10), names), class_styles(np.array([7, 3, 7]), names)
    chosen = class_styles(np.array([7]), names, highlight=["class 7", 3])
    assert len({styles.color(7) for styles in (everything, some, chosen)}) == 1
    assert len({styles.marker(3) for styles in (everything, some, chosen)}) == 1
    assert chosen.color(4) == GREY
    assert chosen.num_others == 8


def test_a_thousand_classes_show_the_ten_largest():
    labels = np.concatenate([np.arange(1000), np.repeat(np.arange(500, 510), 5)])
    styles = class_styles(labels)
    assert styles.highlighted == tuple(range(500, 510))
    assert styles.num_others == 990
    assert {styles.color(label) for label in range(500, 510)} == set(COLORS)
    assert class_styles(labels, highlight=[999, 3]).highlighted == (3, 999)


@pytest.mark.parametrize(
    ("labels", "settings", "error", "message"),
    [
        ([0.5, 1], {}, TypeError, "dtype float64"),
        ([], {}, TypeError, "one integer for each item"),
        ([0, -1], {}, ValueError, "label -1 is negative"),
        ([0, 3], {"class_names": ["a", "b"]}, ValueError, "label 3 has no name: class_names has 2"),
        ([0, 1], {"highlight": ["cat"], "class_names": ["a", "b"]}, ValueError, "'cat' is no class; the classes are a, b"),
        ([0, 1], {"highlight": ["a"], "class_names": ["a", "a"]}, ValueError, "'a' stands for several classes"),
        ([0, 1], {"highlight": [5]}, ValueError, "class 5 is out of range; labels are 0..1"),
        ([0, 1], {"highlight": [1, 1]}, ValueError, "names a class twice"),
        (range(30), {"highlight": list(range(11))}, ValueError, "11 classes to highlight; no more than 10"),
    ],
)
def test_wrong_input(labels, settings, error, message):
    with pytest.raises(error, match=message):
        class_styles(np.array(list(labels)), **settings)
