"""Every number that shapes a text condition: a frozen dataclass, part of the generator's configuration."""

from __future__ import annotations

from dataclasses import dataclass

from .config_fields import Config, check_positive

WORDS = "words"
# kinds of text encoders of `transformers`, and the layer whose output public code takes (-1 the last, -2 the one before)
TRANSFORMERS = {"t5": -1, "umt5": -1, "clip": -2, "siglip": -1}
ROTATIONS = ("identity", "zero")


@dataclass(frozen=True)
class TextConfig(Config):
    """How a generator reads captions.

    Parameters
    ----------
    encoder : "words", "t5", "umt5", "clip" or "siglip"
        The small word-level encoder, which is part of the generator and trained with it; or the kind of a frozen encoder of `transformers`.
    width : int
        E, channels of a token feature.
    length : int
        T, most tokens of a caption; longer ones are cut.
    rotation : "identity" or "zero"
        Rotary rows of the caption's positions. With "zero", as in LlamaGen, queries and keys of the caption vanish: every image token then
        weighs all words alike, whatever they are.
    zero_init : bool
        Start the projections at zero, so that captions change nothing at first: for a trunk that was trained on classes.
    vocabulary : tuple of str
        Words that the word-level encoder knows, in the order of their ids, which begin at 2 (0 is padding, 1 reserved for unknown words).
    depth, num_heads : int
        Blocks and attention heads of the word-level encoder.
    name : str, optional
        Name or folder that a frozen encoder was loaded from.
    layer : int
        Layer of a frozen encoder whose output is taken: -1 the last, -2 the one before.
    fingerprint : str, optional
        SHA-256 of the configuration and some weights of a frozen encoder.
    """

    encoder: str = WORDS
    width: int = 144
    length: int = 12
    rotation: str = "identity"
    zero_init: bool = False
    vocabulary: tuple[str, ...] = ()
    depth: int = 1
    num_heads: int = 4
    name: str | None = None
    layer: int = -1
    fingerprint: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        if self.encoder not in (WORDS, *TRANSFORMERS):
            raise ValueError(f"text.encoder={self.encoder!r}; choose one of {', '.join((WORDS, *TRANSFORMERS))}.")
        if self.rotation not in ROTATIONS:
            raise ValueError(f"text.rotation={self.rotation!r}; choose one of {', '.join(ROTATIONS)}.")
        for name in ("width", "length", "num_heads"):
            check_positive(self, name)
        if not isinstance(self.depth, int) or self.depth < 0:
            raise ValueError(f"text.depth={self.depth!r}; expected a number of blocks, 0 or more.")
        if self.encoder == WORDS and self.width % self.num_heads:
            raise ValueError(f"text.width={self.width} is no multiple of text.num_heads={self.num_heads}.")
        if self.encoder != WORDS and self.vocabulary:
            raise ValueError(f"text.vocabulary belongs to encoder='words', not to {self.encoder!r}, which has its own.")
        if self.layer >= 0:
            raise ValueError(f"text.layer={self.layer}; count from the end: -1 is the last layer, -2 the one before.")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            twice = next(word for word in self.vocabulary if self.vocabulary.count(word) > 1)
            raise ValueError(f"text.vocabulary has the word {twice!r} twice.")

    @property
    def own(self) -> bool:
        """Whether the encoder is part of the generator."""
        return self.encoder == WORDS
