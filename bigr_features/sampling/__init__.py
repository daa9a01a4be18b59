"""Drawing new codes from a generator."""

from .masked import RevealStep, sample_codes

__all__ = ["RevealStep", "sample_codes"]
