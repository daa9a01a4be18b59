"""Small things of text-to-image for tests: a random encoder of `transformers` in a folder, and images with captions."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from PIL import Image

from bigr_features import BiGR
from bigr_features.data import load_sample
from bigr_features.data.captions import captions
from bigr_features.functional.words import Vocabulary
from bigr_features.models.text_config import TextConfig

from .helpers import TINY, randomized

WORDS = ("a", "background", "bag", "black", "boot", "dark", "light", "shirt", "white", "wide")
TEXT = TextConfig(width=16, length=6, vocabulary=WORDS, num_heads=2)


def text_generator(seed: int = 0, **changes) -> BiGR:
    """A random generator of 3 x 3 tokens on captions of the words above, in eval mode; fields of TextConfig may change, and `model`."""
    model = changes.pop("model", {})
    return randomized(BiGR(TINY.replace(text=TEXT.replace(**changes), **model)), seed).eval()


def save_encoder(folder: Path, kind: str = "t5", width: int = 16, words: tuple[str, ...] = WORDS) -> Path:
    """A tiny random text encoder and its WordLevel tokenizer, as `save_pretrained` writes them."""
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.processors import TemplateProcessing

    torch.manual_seed(0)
    Vocabulary(words).save(folder.parent / "words.json")
    inner = Tokenizer.from_file(str(folder.parent / "words.json"))
    inner.add_tokens(["[end]"])
    end = inner.token_to_id("[end]")
    inner.post_processor = TemplateProcessing(single="$A [end]", special_tokens=[("[end]", end)])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[pad]", unk_token="[unk]", eos_token="[end]")
    size, heads = end + 1, {"num_layers": 2, "num_heads": 2}
    if kind in ("t5", "umt5"):
        kinds = {
            "t5": (transformers.T5Config, transformers.T5EncoderModel),
            "umt5": (transformers.UMT5Config, transformers.UMT5EncoderModel),
        }
        make, build = kinds[kind]
        config = make(vocab_size=size, d_model=width, d_kv=8, d_ff=32, **heads)
    else:
        kinds = {
            "clip": (transformers.CLIPTextConfig, transformers.CLIPTextModel),
            "siglip": (transformers.SiglipTextConfig, transformers.SiglipTextModel),
        }
        make, build = kinds[kind]
        ends = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": 0}
        config = make(
            vocab_size=size, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=10, projection_dim=width, **ends,
        )  # fmt: skip
    build(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def captioned_images(folder: Path, count: int = 40) -> Path:
    """Images of the Fashion-MNIST sample as PNG files, and a .csv that lists them with synthetic captions, two rows an image."""
    sample = load_sample("fashion_mnist")
    pixels, labels = sample.train_images[:: len(sample.train_images) // count][:count], sample.train_labels[:: 4000 // count][:count]
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i, (image, texts) in enumerate(zip(pixels, captions(pixels, labels, per_image=2), strict=True)):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
        rows += [(f"{i:03d}.png", text) for text in texts]
    path = folder / "captions.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "caption"), *rows])
    return path
