"""A colour and a marker for each class, the same in every plot.

The first eight colours are those of Okabe and Ito (Color Universal Design, 2008), reordered so that the darker ones come first; wine
and olive complete ten. No two are closer than 16 in CIELAB under normal vision or simulated protanopia, deuteranopia or tritanopia
(matplotlib's tab10: 5), and each has its own marker besides. No palette of a hundred colours can be told apart, so beyond ten classes
the highlighted ones have colours and the others are grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255", "#F0E442", "#555500")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", "p", ">")
INK = (0.79, 0.50, 1.00, 1.00, 0.50, 0.56, 0.64, 0.50, 0.60, 0.50)  # area of each marker, as a share of matplotlib's s
GREY = "#BDBDBD"


@dataclass(frozen=True)
class ClassStyles:
    """Which classes have a colour.

    class_names : all classes, by label.
    highlighted : labels of those with a colour, rising; the others are grey.
    """

    class_names: tuple[str, ...]
    highlighted: tuple[int, ...]

    def place(self, label: int) -> int | None:
        """Place of a class in COLORS and MARKERS; None for a class in grey.

        With up to ten classes this is the label itself, whichever of them are highlighted.
        """
        if label not in self.highlighted:
            return None
        return label if len(self.class_names) <= len(COLORS) else self.highlighted.index(label)

    def color(self, label: int) -> str:
        """Hexadecimal colour of a class."""
        place = self.place(label)
        return GREY if place is None else COLORS[place]

    def marker(self, label: int) -> str:
        """Matplotlib marker of a class."""
        place = self.place(label)
        return "." if place is None else MARKERS[place]

    def scale(self, label: int) -> float:
        """Factor on a marker's size that gives all classes in colour the same amount of ink."""
        place = self.place(label)
        return 1.0 if place is None else INK[0] / INK[place]

    @property
    def num_others(self) -> int:
        """Classes without a colour."""
        return len(self.class_names) - len(self.highlighted)


def class_styles(labels: np.ndarray, class_names: Sequence[str] | None = None, highlight: Sequence[str | int] | None = None) -> ClassStyles:
    """Choose the classes that are drawn in colour.

    A class keeps its colour across plots because it follows from its place among all classes, not from what is in one plot; with more
    than ten classes, pass the same `highlight`, or the same styles.

    Parameters
    ----------
    labels : integer array (n,)
    class_names : names by label; None takes the numbers themselves
    highlight : up to ten names or labels; None takes all of up to ten classes, else the ten largest in `labels`

    Raises
    ------
    TypeError, ValueError
        For labels that are not integers of 0 or more or have no name, and for unknown, repeated or too many highlighted classes.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not len(labels):
        raise TypeError(f"labels have dtype {labels.dtype} and shape {labels.shape}; expected one integer for each item.")
    if labels.min() < 0:
        raise ValueError(f"label {labels.min()} is negative; labels count from 0 (leave unlabelled items out, or pass labels=None).")
    names = tuple(map(str, range(labels.max() + 1) if class_names is None else class_names))
    if labels.max() >= len(names):
        raise ValueError(f"label {labels.max()} has no name: class_names has {len(names)} entries.")
    if highlight is None:
        if len(names) <= len(COLORS):
            return ClassStyles(names, tuple(range(len(names))))
        sizes = np.bincount(labels, minlength=len(names))
        largest = np.argsort(-sizes, kind="stable")[: len(COLORS)]
        return ClassStyles(names, tuple(sorted(int(label) for label in largest if sizes[label])))
    if len(highlight) > len(COLORS):
        raise ValueError(f"{len(highlight)} classes to highlight; no more than {len(COLORS)} colours can be told apart.")
    chosen = tuple(sorted(_label_of(choice, names) for choice in highlight))
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"highlight={list(highlight)} names a class twice.")
    return ClassStyles(names, chosen)


def _label_of(choice: str | int, names: tuple[str, ...]) -> int:
    if isinstance(choice, str):
        if names.count(choice) == 1:
            return names.index(choice)
        some = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        problem = "stands for several classes, so give its label" if choice in names else f"is no class; the classes are {some}"
        raise ValueError(f"highlighted class {choice!r} {problem}.")
    if not 0 <= choice < len(names):
        raise ValueError(f"highlighted class {choice} is out of range; labels are 0..{len(names) - 1}.")
    return int(choice)
