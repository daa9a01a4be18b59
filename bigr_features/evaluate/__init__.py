"""Evaluators: arrays in, results out. They know neither models nor data sets."""

from importlib import import_module

# imported when first asked for, so that one evaluator does not load what another one needs
_HOMES = {
    "AttentiveProbe": "attentive_probe",
    "EfficientProbe": "attentive_probe",
    "KNNClassifier": "knn",
    "LinearProbe": "linear_probe",
    "MAEProbe": "mae_probe",
    "few_shot": "shots",
    "generative_classifier": "likelihoods",
}

__all__ = ["AttentiveProbe", "EfficientProbe", "KNNClassifier", "LinearProbe", "MAEProbe", "few_shot", "generative_classifier"]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
