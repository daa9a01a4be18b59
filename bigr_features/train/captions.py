"""Captions of training images: which encoder reads them, and a batch of them as tensors.   n images, B of a batch, T tokens"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..data.items import Items
from ..data.sources import open_items
from ..functional.inference import local_device
from ..functional.words import Vocabulary
from ..models.config import GeneratorConfig
from ..models.text_config import WORDS, TextConfig
from ..models.text_encoders import FrozenEncoder, load_text_encoder
from ..models.text_reading import WordReader
from ..sampling.captions import Captions
from .caption_cache import CaptionCache, captions_sha256
from .sampler import SampledBatch
from .settings import TrainConfig

log = logging.getLogger(__name__)

MOST_WORDS = 20_000


class TrainingCaptions:
    """Captions of images, of which each batch draws one an image.

    Parameters
    ----------
    texts : sequence of tuples of str
        Captions of each image, one or more.

    Attributes
    ----------
    distinct : list of str
        Every caption once, in the order of the first image that has it.
    identity : str
        Changes when a caption does.
    text : TextConfig
        How they are read, once `read_by` was called.
    encoder : FrozenEncoder or None
    """

    def __init__(self, texts: Sequence[tuple[str, ...]], seed: int):
        numbers: dict[str, int] = {}
        rows = [numbers.setdefault(text, len(numbers)) for own in texts for text in own]
        self.distinct, self.seed = list(numbers), seed
        self.rows = np.array(rows, dtype=np.int64)
        self.starts = np.concatenate([[0], np.cumsum([len(own) for own in texts])])
        self.identity = captions_sha256([text for own in texts for text in ("", *own)])
        self.text: TextConfig | None = None
        self.encoder: FrozenEncoder | None = None
        self._source: CaptionCache | _Ids

    def __len__(self) -> int:
        return len(self.starts) - 1

    def read_by(self, text: TextConfig, encoder: FrozenEncoder | None, cache: Path) -> None:
        """Make them ready: ids of words, or features from the cache."""
        self.text, self.encoder = text, encoder
        if encoder is not None:
            self._source = CaptionCache(cache, self.distinct, encoder)
            return
        reader = WordReader(text)
        rows = reader.rows(self.distinct)
        cut = sum(len(reader.vocabulary.encode(caption)[0]) > text.length for caption in self.distinct)
        if cut:
            log.warning(
                "%d of %d captions have more than %d words and are cut; --model.text.length N takes more", cut, len(rows), text.length
            )
        silent = sum(not row for row in rows)
        if silent:
            log.warning("%d of %d captions have no word of the vocabulary: they are null captions", silent, len(rows))
        self._source = _Ids(reader, rows)

    def batch(self, batch: SampledBatch) -> Captions:
        """One caption for each image of a batch; the draw is a function of seed and step."""
        counts = self.starts[batch.items + 1] - self.starts[batch.items]
        drawn = np.random.default_rng([self.seed, 5, batch.step]).integers(2**62, size=len(counts)) % counts
        return self._source.read(self.rows[self.starts[batch.items] + drawn])


class _Ids:
    def __init__(self, reader: WordReader, rows: list[list[int]]):
        whole = reader.captions(rows)
        self.tokens, self.mask = whole.tokens[:, 0], whole.mask[:, 0]

    def read(self, rows: np.ndarray) -> Captions:
        rows = torch.from_numpy(rows)
        return Captions.of_tokens(self.tokens[rows], self.mask[rows])


def captions_of_cache(config: TrainConfig, num_images: int, listing: str | None) -> TrainingCaptions:
    """Captions of the images of a code cache, from the source that --captions names.

    Raises
    ------
    ValueError
        If none is named, or it has another number of images, or some without a caption.
    """
    if config.captions is None:
        raise ValueError("a cache holds no captions; give --captions, the source that was encoded, or a listing in its order.")
    items = open_items(config.captions, config.split, captioned=True, caption_column=config.caption_column)
    if len(items) != num_images:
        raise ValueError(
            f"{config.captions} has {len(items)} images, but the cache {config.codes} has {num_images}; captions belong to images by their "
            "number, so encode the source of the captions itself: bigr encode --source."
        )
    if listing is not None and items.listing_sha256() != listing:
        log.warning("%s is not what was encoded: its captions are taken for the images of the cache in their order", config.captions)
    return TrainingCaptions(_complete(items, config.captions), config.seed)


def _complete(items: Items, source: str) -> list[tuple[str, ...]]:
    texts = items.captions or []
    silent = [i for i, own in enumerate(texts) if not own]
    if silent:
        raise ValueError(f"{len(silent)} of {len(texts)} images of {source} have no caption, the first {items.name(silent[0])}; write one.")
    return texts


def with_text(config: TrainConfig, captions: TrainingCaptions, start: GeneratorConfig | None) -> TrainConfig:
    """The settings with the model's text condition filled in, and the captions made ready for it.

    Parameters
    ----------
    config : TrainConfig
        Its `text` is "words", a WordLevel file, or the name or folder of an encoder.
    captions : TrainingCaptions
    start : GeneratorConfig, optional
        Of the weights that training starts from: a model of words keeps its vocabulary.
    """
    given, source = config.model.text, config.text or WORDS
    cache = config.caption_cache or config.out / "captions"
    if source == WORDS or Path(source).suffix.lower() == ".json":
        if given is not None and not given.own and config.text is None:
            raise ValueError(f"the model takes features of a {given.encoder} encoder; give its folder or name: --text FOLDER.")
        text = given if given is not None and given.own else TextConfig(width=config.model.width, num_heads=config.model.num_heads)
        if source != WORDS:
            words = Vocabulary.load(source).words
        elif start is not None and start.text is not None and start.text.own:
            words = start.text.vocabulary
        else:
            words = Vocabulary.of(captions.distinct, MOST_WORDS).words
        text, encoder = replace(text, vocabulary=words), None
        log.info("captions: %d distinct, %d words, at most %d a caption", len(captions.distinct), len(words), text.length)
    else:
        length = given.length if given is not None and not given.own else None
        layer = given.layer if given is not None and not given.own else None
        encoder = load_text_encoder(source, length=length, layer=layer)
        if given is not None and not given.own and given.width != encoder.config.width:
            raise ValueError(
                f"{source} gives features of {encoder.config.width} channels, but the model has text.width={given.width}; give "
                f"--model.text.width {encoder.config.width}, or another encoder."
            )
        encoder.to(local_device(config.device))
        kept = {name: getattr(given, name) for name in ("rotation", "zero_init")} if given is not None else {}
        text = replace(encoder.config, **kept)
    if start is not None and start.text is None:
        text = replace(text, zero_init=True)  # a trunk of classes goes on where it is
    captions.read_by(text, encoder, cache)
    return replace(config, model=config.model.replace(text=text))
