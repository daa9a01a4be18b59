"""Synthetic captions of Fashion-MNIST: words of the class, and words computed from pixels by rules that are stated here.

They are not written by people. Every word is true by its rule, so that it can be checked on any image, generated ones too.
n images, S side in pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# class: its name and synonyms
NOUNS: tuple[tuple[str, ...], ...] = (
    ("t-shirt", "tee", "top"),
    ("trousers", "pants"),
    ("pullover", "sweater", "jumper"),
    ("dress", "gown"),
    ("coat", "jacket"),
    ("sandal",),
    ("shirt", "blouse"),
    ("sneaker", "trainer", "running shoe"),
    ("bag", "handbag"),
    ("ankle boot", "boot"),
)
TSHIRT, TROUSERS, PULLOVER, DRESS, COAT, SANDAL, SHIRT, SNEAKER, BAG, BOOT = range(10)
PAIRS = {"brightness": ("dark", "light"), "breadth": ("narrow", "wide"), "height": ("short", "long"), "contrast": ("plain", "patterned")}
# where a word of each pair is said: breadth does not vary among shoes, which lie from edge to edge, nor height among clothes
CLASSES = {
    "brightness": tuple(range(10)),
    "breadth": (TSHIRT, TROUSERS, PULLOVER, DRESS, COAT, SHIRT, BAG),
    "height": (SANDAL, SNEAKER, BAG, BOOT),
    "contrast": tuple(range(10)),
}
QUANTILES = (0.3, 0.7)  # of the training images of the class: the first word below, the second above, neither between
VISIBLE = 0.2  # intensity from which a pixel belongs to the thing
# class and two words that no caption names together; the words alone are said of such images
HELD_OUT: tuple[tuple[int, str, str], ...] = (
    (TSHIRT, "dark", "patterned"),
    (TROUSERS, "light", "wide"),
    (PULLOVER, "light", "narrow"),
    (DRESS, "dark", "narrow"),
    (COAT, "dark", "plain"),
    (SANDAL, "light", "short"),
    (SHIRT, "light", "plain"),
    (SNEAKER, "dark", "long"),
    (BAG, "light", "wide"),
    (BOOT, "dark", "short"),
)
TEMPLATES = (
    "{a} {adjectives} {noun}", "{adjectives} {noun}", "{a} {noun}, {listed}", "{a} {noun} that is {listed}",
    "a picture of {a} {adjectives} {noun}",
)  # fmt: skip
BARE = ("{a} {noun}", "{noun}", "a picture of {a} {noun}")
KEEP = 0.6  # probability that a word of the image is said


def measures(images: np.ndarray) -> dict[str, np.ndarray]:
    """What the rules compare, of each image.

    Parameters
    ----------
    images : array (n, S, S) or (n, S, S, C)
        uint8, or floats in [0, 1]; colours are averaged.

    Returns
    -------
    dict of float64 array (n,)
        Of the pixels of intensity 0.2 or more: "brightness" their mean and "contrast" their standard deviation; "breadth" their mean
        number in the rows that have any, "height" in the columns, both as shares of S.
    """
    gray = images.mean(-1) if images.ndim == 4 else images
    gray = gray / 255.0 if np.issubdtype(images.dtype, np.integer) else gray.astype(np.float64)
    thing = gray >= VISIBLE
    area = thing.sum((1, 2))
    safe = np.maximum(area, 1)
    mean = (gray * thing).sum((1, 2)) / safe
    spread = np.sqrt(((gray - mean[:, None, None]) ** 2 * thing).sum((1, 2)) / safe)
    side = gray.shape[1]
    rows, columns = (np.maximum(thing.any(axis).sum(1), 1) for axis in (2, 1))
    return {"brightness": mean, "breadth": area / rows / side, "height": area / columns / side, "contrast": spread}


def thresholds_of(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Quantiles 0.3 and 0.7 (10, 2) of each measure in each class: `THRESHOLDS` are those of the 60,000 training images at 32 x 32."""
    return {
        name: np.stack([np.quantile(values[labels == label], QUANTILES) for label in range(len(NOUNS))])
        for name, values in measures(images).items()
    }


THRESHOLDS: dict[str, tuple[tuple[float, float], ...]] = {
    "brightness": (
        (0.508, 0.740),
        (0.613, 0.750),
        (0.509, 0.751),
        (0.581, 0.768),
        (0.640, 0.772),
        (0.475, 0.585),
        (0.451, 0.705),
        (0.554, 0.670),
        (0.612, 0.733),
        (0.655, 0.747),
    ),
    "breadth": (
        (0.495, 0.566),
        (0.306, 0.340),
        (0.556, 0.648),
        (0.345, 0.429),
        (0.528, 0.613),
        (0.373, 0.500),
        (0.508, 0.626),
        (0.545, 0.625),
        (0.548, 0.800),
        (0.552, 0.597),
    ),
    "height": (
        (0.651, 0.699),
        (0.754, 0.805),
        (0.754, 0.827),
        (0.714, 0.794),
        (0.750, 0.809),
        (0.186, 0.284),
        (0.677, 0.800),
        (0.237, 0.297),
        (0.528, 0.628),
        (0.386, 0.479),
    ),
    "contrast": (
        (0.124, 0.159),
        (0.162, 0.193),
        (0.137, 0.176),
        (0.146, 0.180),
        (0.144, 0.171),
        (0.166, 0.203),
        (0.130, 0.160),
        (0.173, 0.205),
        (0.149, 0.181),
        (0.161, 0.184),
    ),
}


@dataclass(frozen=True)
class Rule:
    """When a word is true of an image.

    measure : name in `measures`.
    above : whether the measure must lie at or above the upper threshold of the class, or else at or below the lower one.
    """

    measure: str
    above: bool


RULES = {word: Rule(measure, above == 1) for measure, pair in PAIRS.items() for above, word in enumerate(pair)}


def holds(word: str, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether a word (dark, light, narrow, wide, short, long, plain, patterned) is true of each image, a thing of class `labels` (n,).

    Raises
    ------
    ValueError
        For another word, or a class of which it is not said.
    """
    if word not in RULES:
        raise ValueError(f"there is no rule for {word!r}; there are rules for {', '.join(RULES)}.")
    return _holds(word, measures(images), np.asarray(labels))


def _holds(word: str, measured: dict[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    rule = RULES[word]
    foreign = sorted(set(labels.tolist()) - set(CLASSES[rule.measure]))
    if foreign:
        raise ValueError(f"{word!r} is not said of class {foreign[0]} ({NOUNS[foreign[0]][0]}), where {rule.measure} hardly varies.")
    low, high = np.asarray(THRESHOLDS[rule.measure])[labels].T
    values = measured[rule.measure]
    return values >= high if rule.above else values <= low


def attributes(images: np.ndarray, labels: np.ndarray) -> list[tuple[str, ...]]:
    """The words that are true of each image, in the order dark or light, narrow or wide, short or long, plain or patterned."""
    measured, labels = measures(images), np.asarray(labels)
    found: list[list[str]] = [[] for _ in labels]
    for word, rule in RULES.items():
        said = np.flatnonzero(np.isin(labels, CLASSES[rule.measure]))
        true = _holds(word, {name: values[said] for name, values in measured.items()}, labels[said])
        for i in said[true]:
            found[i].append(word)
    return [tuple(words) for words in found]


def is_held_out(label: int, words: Sequence[str]) -> bool:
    """Whether words name a combination that training captions never name."""
    return any(label == kind and one in words and other in words for kind, one, other in HELD_OUT)


def caption(label: int, words: Sequence[str], random: np.random.Generator) -> str:
    """A caption of a thing of class `label` with these words, all of them said: a drawn synonym, template and order.

    Raises
    ------
    ValueError
        For a class that does not exist.
    """
    if not 0 <= label < len(NOUNS):
        raise ValueError(f"label {label} is out of range; Fashion-MNIST has the classes 0..{len(NOUNS) - 1}.")
    noun = str(random.choice(NOUNS[label]))
    words = [str(word) for word in random.permutation(list(words))]
    templates = TEMPLATES if words else BARE
    template = templates[random.integers(len(templates))]
    first = words[0] if words and "{a} {adjectives}" in template else noun
    article = "" if noun in ("trousers", "pants") else "an" if first[0] in "aeiou" else "a"
    text = template.format(a=article, adjectives=" ".join(words), listed=" and ".join(words), noun=noun)
    return " ".join(text.split())


def captions(images: np.ndarray, labels: np.ndarray, per_image: int = 1, seed: int = 0) -> list[list[str]]:
    """Synthetic captions, `per_image` of each image: each true word is said with probability 0.6, held-out combinations never.

    Parameters
    ----------
    images : as in `measures`
    labels : int array (n,)
    per_image : int
    seed : int
        An image's captions depend on it, the image and its number only.

    Returns
    -------
    list of list of str
    """
    if per_image < 1:
        raise ValueError(f"per_image={per_image}; give 1 caption or more.")
    return [
        [_drawn(int(label), words, np.random.default_rng([seed, i, k])) for k in range(per_image)]
        for i, (label, words) in enumerate(zip(labels, attributes(images, labels), strict=True))
    ]


def _drawn(label: int, words: tuple[str, ...], random: np.random.Generator) -> str:
    said = [word for word in words if random.random() < KEEP]
    for kind, one, other in HELD_OUT:
        if label == kind and one in said and other in said:
            said.remove(one if random.random() < 0.5 else other)
    return caption(label, said, random)


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can hold, in alphabetical order."""
    nouns = {word for names in NOUNS for name in names for word in name.split()}
    filling = {"a", "an", "and", "is", "of", "picture", "that"}
    return tuple(sorted(nouns | filling | set(RULES)))
