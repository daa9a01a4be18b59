"""BiGR as timm backbones: the full binary-code image generator, its features, and the tools to evaluate them.

Importing this package registers its models with timm: `timm.create_model("bigr_l")`.
"""

from importlib import import_module

from .backbones import bigr as _timm_entries  # noqa: F401  (registers the models)
from .models.autoencoder import BinaryAutoencoder
from .models.config import GeneratorConfig, TokenizerConfig, VQTokenizerConfig
from .models.generator import BiGR
from .models.vq_autoencoder import VQAutoencoder

__version__ = "0.1.0"

# imported when first asked for, so that `import bigr_features` costs little more than `import timm`
_LAZY = {
    "extract_features": ".features.extract",
    "FeatureStore": ".features.store",
    "Gallery": ".gallery",
    "KNNClassifier": ".evaluate.knn",
    "LinearProbe": ".evaluate.linear_probe",
}

__all__ = [
    "BiGR",
    "BinaryAutoencoder",
    "FeatureStore",
    "Gallery",
    "GeneratorConfig",
    "KNNClassifier",
    "LinearProbe",
    "TokenizerConfig",
    "VQAutoencoder",
    "VQTokenizerConfig",
    "__version__",
    "extract_features",
]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
