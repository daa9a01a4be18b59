"""Every knob of masked sampling, checked in one place; Python calls and commands share it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..functional import schedules

ORDERS = ("entropy", "random", "raster", "halton")
GUIDANCE_SCHEDULES = ("constant", "linear", "interval")
BIT_RULES = ("bernoulli", "threshold")


@dataclass(frozen=True)
class SamplingSettings:
    """How hidden tokens are drawn (BiGR, arXiv:2410.14672, Sec. 3.2).

    Parameters
    ----------
    num_reveal_steps : int
        Steps of the outer loop, 1 or more.
    num_denoise_steps : int, optional
        Reverse steps of the transcoder's chain, 1..T; the configuration's number by default.
    order : str
        entropy (most confident first), random, raster or halton. The last three are known beforehand, and the transcoder then runs
        on the tokens of a step only.
    guidance_scale : float
        uncond + s * (cond - uncond) on logits, 1 or more. 1.0 is no guidance and costs one pass.
    guidance_schedule : str
        constant; linear, from near 1 to guidance_scale: 1 + (s - 1) r after the fraction r of steps; or interval, guidance_scale in
        guidance_interval and 1 (no guidance) outside.
    guidance_interval : tuple of two floats, optional
        Start and stop of guidance_schedule interval: guided are the steps with start < r <= stop, r = (step + 1) / num_reveal_steps.
    temperature : float
        Divides logits.
    gumbel_temperature : float
        Weight of Gumbel noise added to the confidence, with order entropy. Without it images vary less; the paper has 0.17 (L), 0.25 (XL)
        and 0.30 (XXL), Table 7.
    gumbel_schedule : str
        constant, down (to 0) or up (from 0).
    mask_schedule : str
        How the hidden fraction falls: cosine or linear.
    posterior : str
        Reverse step, official or exact; see bernoulli.posterior.
    bits : str
        Final bits of a revealed token: bernoulli (drawn from their probabilities) or threshold (1 above 0.5). The transcoder's chain
        before them stays random.

    Raises
    ------
    ValueError
        For a value out of range, naming it.
    """

    num_reveal_steps: int = 20
    num_denoise_steps: int | None = None
    order: str = "entropy"
    guidance_scale: float = 2.5
    guidance_schedule: str = "constant"
    guidance_interval: tuple[float, float] | None = None
    temperature: float = 1.0
    gumbel_temperature: float = 0.0
    gumbel_schedule: str = "constant"
    mask_schedule: str = "cosine"
    posterior: str = "official"
    bits: str = "bernoulli"

    def __post_init__(self) -> None:
        schedules.reveal_counts(0, self.num_reveal_steps, self.mask_schedule)  # raises for the two
        schedules.gumbel_temperature_at(1.0, self.gumbel_temperature, self.gumbel_schedule)
        if self.num_denoise_steps is not None and self.num_denoise_steps < 1:
            raise ValueError(f"num_denoise_steps={self.num_denoise_steps}, but a chain has at least 1 step.")
        if not 1 <= self.guidance_scale < math.inf:
            raise ValueError(f"guidance_scale={self.guidance_scale}; expected 1.0 (no guidance) or more.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}; expected a positive number.")
        if not 0 <= self.gumbel_temperature < math.inf:
            raise ValueError(f"gumbel_temperature={self.gumbel_temperature}; expected 0 or more.")
        for name, choices in (("order", ORDERS), ("guidance_schedule", GUIDANCE_SCHEDULES), ("bits", BIT_RULES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}; choose one of {', '.join(choices)}.")
        if self.posterior not in schedules.POSTERIORS:
            raise ValueError(f"posterior {self.posterior!r} is unknown; choose one of {', '.join(schedules.POSTERIORS)}.")
        if self.gumbel_temperature > 0 and self.order != "entropy":
            raise ValueError(
                f"gumbel_temperature={self.gumbel_temperature} perturbs the confidence, which order={self.order!r} does not use; "
                "leave it at 0, or take order='entropy'."
            )
        self._check_interval()

    def _check_interval(self) -> None:
        interval = self.guidance_interval
        if (interval is not None) != (self.guidance_schedule == "interval"):
            raise ValueError(
                f"guidance_schedule={self.guidance_schedule!r} with guidance_interval={interval}; the two belong together: "
                "give guidance_schedule='interval' and, for example, guidance_interval=(0.2, 1.0)."
            )
        if interval is not None and not (len(interval) == 2 and 0 <= interval[0] < interval[1] <= 1):
            raise ValueError(f"guidance_interval={interval}; expected (start, stop) with 0 <= start < stop <= 1.")

    def guidance_at(self, progress: float) -> float:
        """Guidance scale of the step that ends at `progress` in (0, 1]."""
        if self.guidance_schedule == "linear":
            return 1 + (self.guidance_scale - 1) * progress
        if self.guidance_schedule == "interval":
            start, stop = self.guidance_interval
            return self.guidance_scale if start < progress <= stop else 1.0
        return self.guidance_scale
