"""BiGR as timm backbones: the full binary-code image generator, its features, and the tools to evaluate them.

Importing this package registers its models with timm: `timm.create_model("bigr_l")`.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see
    from .backbones.weights import load_weights
    from .evaluate.knn import KNNClassifier
    from .evaluate.linear_probe import LinearProbe
    from .features.extract import extract_features
    from .features.store import FeatureStore
    from .gallery import Gallery
    from .models.autoencoder import BinaryAutoencoder
    from .models.config import GeneratorConfig
    from .models.generator import BiGR
    from .models.tokenizer_config import TokenizerConfig, VQTokenizerConfig
    from .models.vq_autoencoder import VQAutoencoder

__version__ = "0.1.0"

# imported when first asked for, so that `import bigr_features` costs little more than `import timm`
_HOMES = {
    "BiGR": ".models.generator",
    "BinaryAutoencoder": ".models.autoencoder",
    "FeatureStore": ".features.store",
    "Gallery": ".gallery",
    "GeneratorConfig": ".models.config",
    "KNNClassifier": ".evaluate.knn",
    "LinearProbe": ".evaluate.linear_probe",
    "TokenizerConfig": ".models.tokenizer_config",
    "VQAutoencoder": ".models.vq_autoencoder",
    "VQTokenizerConfig": ".models.tokenizer_config",
    "extract_features": ".features.extract",
    "load_weights": ".backbones.weights",
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
    "load_weights",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return globals().setdefault(name, getattr(import_module(_HOMES[name], __name__), name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _only_help_is_asked() -> bool:
    """Whether this process is `bigr`, `bigr --version` or `bigr ... --help`, which prints and ends, without need of torch and timm."""
    program = Path(sys.argv[0]).name.partition(".")[0] if sys.argv and sys.argv[0] else ""
    is_command = program in ("bigr", "bigr-script") or (program == "-m" and "bigr_features.cli" in sys.orig_argv)
    return is_command and (len(sys.argv) == 1 or not {"-h", "--help", "--version"}.isdisjoint(sys.argv))


if not _only_help_is_asked():
    import_module(".backbones.bigr", __name__)  # registers the models
    import_module(".backbones.baselines", __name__)
