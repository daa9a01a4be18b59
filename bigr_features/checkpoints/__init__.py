"""Reading and writing weights: our own format, and the official files of BiGR and of the systems it is compared with."""

from .files import check_state, fingerprint, read_checkpoint, read_pickle, read_safetensors, weights_of
from .llamagen_tokenizer import llamagen_tokenizer_state, load_llamagen_tokenizer, read_llamagen_tokenizer
from .native import load_model, save_model
from .official import (
    is_official_generator,
    load_official_generator,
    load_official_tokenizer,
    official_generator_state,
    official_tokenizer_state,
    read_official_generator,
    read_official_tokenizer,
)
from .timm_models import load_weights

__all__ = [
    "check_state",
    "fingerprint",
    "is_official_generator",
    "llamagen_tokenizer_state",
    "load_llamagen_tokenizer",
    "load_model",
    "load_official_generator",
    "load_official_tokenizer",
    "load_weights",
    "official_generator_state",
    "official_tokenizer_state",
    "read_checkpoint",
    "read_llamagen_tokenizer",
    "read_official_generator",
    "read_official_tokenizer",
    "read_pickle",
    "read_safetensors",
    "save_model",
    "weights_of",
]
