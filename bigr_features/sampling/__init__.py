"""Drawing new codes from a generator, and editing images with it."""

from .editing import Edited, edit, enrich, inpaint, outpaint
from .interpolation import interpolate
from .masked import RevealStep, sample_codes
from .settings import SamplingSettings

__all__ = ["Edited", "RevealStep", "SamplingSettings", "edit", "enrich", "inpaint", "interpolate", "outpaint", "sample_codes"]
