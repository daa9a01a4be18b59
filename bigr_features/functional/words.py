"""Captions as words: splitting, a vocabulary, and the ids of a caption. Knows no model.   B captions, T words"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAD, UNKNOWN = "[pad]", "[unk]"
FIRST = 2  # id of the first word of a vocabulary
PATTERN = r"\w+(?:['’-]\w+)*"  # letters and digits of any script; an apostrophe or hyphen inside a word stays
_WORD = re.compile(PATTERN)
MAX_CHARACTERS = 10_000  # of a caption that are looked at


def split_words(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation; of a very long text, those of its first 10,000 characters."""
    return _WORD.findall(unicodedata.normalize("NFKC", text[:MAX_CHARACTERS]).lower())


@dataclass(frozen=True)
class Vocabulary:
    """Words by id; ids 0 and 1 are padding and the reserved unknown word.

    words : tuple of str
    """

    words: tuple[str, ...]
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "ids", {word: FIRST + i for i, word in enumerate(self.words)})

    def __len__(self) -> int:
        """Rows of an embedding table, the two special ones included."""
        return FIRST + len(self.words)

    def encode(self, text: str) -> tuple[list[int], list[str]]:
        """Ids of the words that are known, and the words that are not."""
        words = split_words(text)
        known = [self.ids[word] for word in words if word in self.ids]
        return known, [word for word in words if word not in self.ids]

    def near(self, word: str) -> list[str]:
        """Up to three known words that are written alike."""
        return difflib.get_close_matches(word[:40], self.words, n=3, cutoff=0.7)

    @classmethod
    def of(cls, captions: Iterable[str], most: int | None = None, at_least: int = 1) -> Vocabulary:
        """The words of captions in alphabetical order.

        Parameters
        ----------
        captions : iterable of str
        most : int, optional
            Keep so many words, the most frequent.
        at_least : int
            Leave out words that come less often.

        Raises
        ------
        ValueError
            If there is no word.
        """
        counts = Counter(word for caption in captions for word in split_words(caption))
        kept = [word for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if count >= at_least][:most]
        if not kept:
            raise ValueError("the captions hold no word, so there is no vocabulary; give captions of letters or digits.")
        return cls(tuple(sorted(kept)))

    def save(self, path: str | Path) -> None:
        """Write a `WordLevel` file of the `tokenizers` library, which splits and numbers words in the same way."""
        content: dict[str, Any] = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}]},
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Removed", "invert": True},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": {PAD: 0, UNKNOWN: 1, **self.ids}, "unk_token": UNKNOWN},
        }
        Path(path).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """The words of a `WordLevel` file of the `tokenizers` library, in the order of their ids; special tokens are left out.

        Raises
        ------
        FileNotFoundError, ValueError
            For a missing file, or one of another kind.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no vocabulary file {path}; give a WordLevel file of the `tokenizers` library.")
        try:
            model = json.loads(path.read_text(encoding="utf-8"))["model"]
            kind, vocab = model.get("type"), model.get("vocab")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no file of the `tokenizers` library ({type(error).__name__}: {error}).") from error
        if kind != "WordLevel" or not isinstance(vocab, dict):
            raise ValueError(f"{path} holds a tokenizer of kind {kind!r}; the word-level encoder reads WordLevel files.")
        words = [word for word, _ in sorted(vocab.items(), key=lambda item: item[1]) if split_words(word) == [word]]
        if not words:
            raise ValueError(f"{path} holds no word in lower case; its vocabulary is {', '.join(map(repr, list(vocab)[:8]))}.")
        return cls(tuple(words))


def check_prompts(text: str | Sequence[str]) -> list[str]:
    """Prompts as a list.

    Raises
    ------
    TypeError
        For anything that is no text.
    ValueError
        For no prompt at all, or control characters (tabs and line ends count as blanks).
    """
    prompts = [text] if isinstance(text, str) else list(text)
    if not prompts:
        raise ValueError("there are no prompts, so there is nothing to draw; give at least one.")
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise TypeError(f"prompt {number} is a {type(prompt).__name__}; expected text.")
        bad = next((c for c in prompt if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n\r"), None)
        if bad is not None:
            raise ValueError(f"prompt {number} holds the control character {bad!r} at position {prompt.index(bad)}; take it out.")
    return prompts


def cleaned(caption: str) -> str:
    """A caption of a data set with control characters turned into blanks, and blanks joined."""
    if caption.isprintable() and "  " not in caption:
        return caption.strip()
    return " ".join("".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in caption).split())


def excerpt(text: str, most: int = 60) -> str:
    """A text for a message: in quotes, long ones cut."""
    text = " ".join(text[: 4 * most].split())
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")
