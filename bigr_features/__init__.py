"""BiGR as timm backbones: the full binary-code image generator, its features, and the tools to evaluate them.

Importing this package registers its models with timm: `timm.create_model("bigr_l")`.
"""

from .models import bigr as _timm_entries  # noqa: F401  (registers the models)
from .models.autoencoder import BinaryAutoencoder
from .models.config import GeneratorConfig, TokenizerConfig
from .models.generator import BiGR

__version__ = "0.1.0"

__all__ = ["BiGR", "BinaryAutoencoder", "GeneratorConfig", "TokenizerConfig", "__version__"]
