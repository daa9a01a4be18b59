"""What splits are called: train, test and validation, in any spelling that is usual."""

from __future__ import annotations

import re
from collections.abc import Collection

_SPELLINGS = {
    "train": ("train", "training", "trn"),
    "test": ("test", "testing", "tst"),
    "validation": ("val", "valid", "validation", "validate", "validating", "dev", "eval", "evaluation"),
}
_BY_WORD = {word: split for split, words in _SPELLINGS.items() for word in words}
_BY_WORD |= {f"{word}set": split for word, split in _BY_WORD.items()}
_FILLERS = {"set", "split", "data", "dataset", "image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "samples"}


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for, such as "test" for Testing, test_set or TEST-images; None for any other name."""
    words = re.findall(r"[^\W\d_]+", name.lower())
    found = [_BY_WORD[word] for word in words if word in _BY_WORD]
    return found[0] if len(found) == 1 and all(word in _BY_WORD or word in _FILLERS for word in words) else None


def choose_split(split: str, names: Collection[str], source) -> str:
    """The one of `names` that is the split asked for: the same name, or the only one that stands for it.

    Raises
    ------
    ValueError
        If there is none, or several.
    """
    if split in names:
        return split
    wanted = split_of(split)
    alike = [name for name in names if wanted is not None and split_of(name) == wanted]
    if len(alike) > 1:
        raise ValueError(f"{source} has several splits that {split!r} can mean: {', '.join(sorted(alike))}; give one of these names.")
    if not alike:
        raise ValueError(f"{source} has no split {split!r}; it has {', '.join(sorted(names))}.")
    return alike[0]
