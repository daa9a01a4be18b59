"""Reading and writing weights: our own format, and the official files of BiGR and of the systems it is compared with."""

from .files import check_state, fingerprint, read_checkpoint, read_pickle, read_safetensors, weights_of
from .folders import ACCEPTED, checked_weights, class_names_of, feature_layer_of, file_of, load_parts, load_trained
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
from .systems import (
    elm_generator_state,
    is_elm_generator,
    is_llamagen_generator,
    llamagen_generator_state,
    load_elm_generator,
    load_llamagen_generator,
    read_elm_generator,
    read_llamagen_generator,
)
from .timm_models import load_weights

__all__ = [
    "ACCEPTED",
    "check_state",
    "checked_weights",
    "class_names_of",
    "elm_generator_state",
    "feature_layer_of",
    "file_of",
    "fingerprint",
    "is_elm_generator",
    "is_llamagen_generator",
    "is_official_generator",
    "llamagen_generator_state",
    "llamagen_tokenizer_state",
    "load_elm_generator",
    "load_llamagen_generator",
    "load_llamagen_tokenizer",
    "load_model",
    "load_official_generator",
    "load_official_tokenizer",
    "load_parts",
    "load_trained",
    "load_weights",
    "official_generator_state",
    "official_tokenizer_state",
    "read_checkpoint",
    "read_elm_generator",
    "read_llamagen_generator",
    "read_llamagen_tokenizer",
    "read_official_generator",
    "read_official_tokenizer",
    "read_pickle",
    "read_safetensors",
    "save_model",
    "weights_of",
]
