"""BiGR as timm backbones: the full binary-code image generator, its features, and the tools to evaluate them.

Importing this package registers its models with timm: `timm.create_model("bigr_l")`.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec

__version__ = "0.1.0"

# imported when first asked for, so that the package costs nothing beside timm and torch, and the command line can do without the two
_HOMES = {
    "BiGR": ".models.generator",
    "BinaryAutoencoder": ".models.autoencoder",
    "FeatureStore": ".features.store",
    "Gallery": ".gallery",
    "GeneratorConfig": ".models.config",
    "KNNClassifier": ".evaluate.knn",
    "LinearProbe": ".evaluate.linear_probe",
    "TokenizerConfig": ".models.config",
    "extract_features": ".features.extract",
}
_ROOMS = (
    "functional", "data", "storage", "evaluate", "plots", "sampling", "models", "checkpoints", "backbones", "train", "features", "gallery",
    "cli",
)  # fmt: skip

__all__ = [
    "BiGR",
    "BinaryAutoencoder",
    "FeatureStore",
    "Gallery",
    "GeneratorConfig",
    "KNNClassifier",
    "LinearProbe",
    "TokenizerConfig",
    "__version__",
    "extract_features",
]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _RegistersModels(MetaPathFinder, Loader):
    """Registers our models as soon as timm is imported, if that comes later than this package."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "timm" or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec("timm")
        if spec is not None and spec.loader is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        import_module(".backbones.bigr", __name__)


if "timm" in sys.modules:
    import_module(".backbones.bigr", __name__)
else:
    sys.meta_path.insert(0, _RegistersModels())
