"""From strings to captions as tensors: by a vocabulary, or by a frozen encoder of `transformers`.   B prompts, T tokens, E channels"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import torch

from ..functional.checks import some
from ..functional.words import Vocabulary, check_prompts, excerpt
from ..sampling.captions import Captions
from .text_config import TextConfig
from .text_encoders import FrozenEncoder, load_text_encoder

log = logging.getLogger(__name__)


class TextReader(Protocol):
    """What turns prompts into captions."""

    def read(self, text: str | Sequence[str]) -> Captions:
        """Captions of prompts, one an image; an empty prompt is the null caption.

        Raises
        ------
        TypeError, ValueError
            For what is no text, holds control characters, or has no word that the model knows.
        """
        ...


class WordReader:
    """Ids of the words that a vocabulary has.

    Parameters
    ----------
    text : TextConfig
    """

    def __init__(self, text: TextConfig):
        self.vocabulary, self.length = Vocabulary(text.vocabulary), text.length

    def read(self, text: str | Sequence[str]) -> Captions:
        """See `TextReader.read`. Unknown words are left out and named, prompts of too many words cut and said so."""
        prompts = check_prompts(text)
        rows: dict[str, list[int]] = {}
        for number, prompt in enumerate(prompts):
            if prompt in rows:  # several images of a prompt: what is wrong with it is said once
                continue
            ids, unknown = self.vocabulary.encode(prompt)
            if unknown:
                self._say_unknown(number, prompt, ids, unknown)
            if len(ids) > self.length:
                last = self.vocabulary.words[ids[self.length - 1] - 2]
                log.warning(
                    "prompt %d has %d words, and the model takes %d: cut after %r (%s)",
                    number,
                    len(ids),
                    self.length,
                    last,
                    excerpt(prompt),
                )
            rows[prompt] = ids[: self.length]
        _say_empty([prompts.index(prompt) for prompt, ids in rows.items() if not ids])
        return self.captions([rows[prompt] for prompt in prompts])

    def _say_unknown(self, number: int, prompt: str, ids: list[int], unknown: list[str]) -> None:
        named = some([excerpt(word, 30) for word in dict.fromkeys(unknown)])
        near = [word for one in dict.fromkeys(unknown[:4]) for word in self.vocabulary.near(one)]
        meant = f"; did you mean {some(dict.fromkeys(near))}?" if near else f"; it knows {some(self.vocabulary.words, 20)}"
        if not ids:
            raise ValueError(f"prompt {number} ({excerpt(prompt)}) has no word that the model knows{meant}.")
        log.warning("prompt %d: the model does not know %s, left out%s", number, named, meant)

    def rows(self, captions: Sequence[str]) -> list[list[int]]:
        """Ids of captions of a data set, cut to T; unknown words are left out without a word."""
        return [self.vocabulary.encode(caption)[0][: self.length] for caption in captions]

    def captions(self, rows: Sequence[Sequence[int]]) -> Captions:
        """Captions of ids, padded to T."""
        ids = torch.zeros(len(rows), self.length, dtype=torch.int64)
        for row, own in zip(ids, rows, strict=True):
            row[: len(own)] = torch.tensor(own, dtype=torch.int64)
        return Captions.of_tokens(ids, ids > 0)


class EncoderReader:
    """Features of a frozen encoder, which is loaded when it is first needed.

    Parameters
    ----------
    text : TextConfig
    """

    def __init__(self, text: TextConfig):
        self.text = text
        self._encoder: list[FrozenEncoder] = []  # a list, so that a module that holds this does not take it for a part of itself

    def attach(self, encoder: FrozenEncoder) -> None:
        """Take this encoder, which must be the one that the model was trained with.

        Raises
        ------
        ValueError
            Naming what differs.
        """
        encoder.check(self.text)
        self._encoder[:] = [encoder]

    @property
    def encoder(self) -> FrozenEncoder:
        """The encoder, loaded from the name that the configuration records if none was attached."""
        if not self._encoder:
            if self.text.name is None:
                raise ValueError(
                    f"this model takes features of a {self.text.encoder} encoder of {self.text.width} channels and does not know which; "
                    "attach one: model.attach_text_encoder(load_text_encoder(folder))."
                )
            loaded = load_text_encoder(self.text.name, length=self.text.length, layer=self.text.layer)
            self.attach(loaded)
        return self._encoder[0]

    def read(self, text: str | Sequence[str]) -> Captions:
        """See `TextReader.read`. Prompts of too many tokens are cut, and that is said."""
        prompts = check_prompts(text)
        _say_empty([prompts.index(prompt) for prompt in dict.fromkeys(prompts) if not prompt.strip()])
        return self.encoder.encode(prompts)


def _say_empty(numbers: list[int]) -> None:
    if numbers:
        log.warning("prompt %s is empty: the null caption stands for it, and guidance to it has no effect", some(numbers))


def build_reader(text: TextConfig) -> TextReader:
    """The reader that a configuration asks for."""
    return WordReader(text) if text.own else EncoderReader(text)
