"""Every knob of sampling, checked in one place; Python calls and commands share it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..functional import schedules

ORDERS = ("entropy", "random", "raster", "halton")
GUIDANCE_SCHEDULES = ("constant", "linear", "cosine", "log", "square", "square_root", "power_cosine", "interval")
BIT_RULES = ("bernoulli", "threshold")


@dataclass(frozen=True)
class SamplingSettings:
    """How tokens are drawn: hidden ones (BiGR, arXiv:2410.14672, Sec. 3.2), or one after the other.

    A generator takes those that mean something for it, and refuses another value of the rest; see `Sampler`.

    Parameters
    ----------
    num_reveal_steps : int
        Steps of the outer loop, 1 or more.
    num_denoise_steps : int, optional
        Reverse steps of the transcoder's chain, 1..T; the configuration's number by default.
    final_denoise_steps : int, optional
        Reverse steps of the last reveal step, to which their number falls evenly from num_denoise_steps in the first one: late tokens are
        nearly certain and need few (DiSA). By default all chains are equally long.
    order : str
        entropy (most confident first), random, raster or halton. The last three are known beforehand, and the transcoder then runs
        on the tokens of a step only.
    guidance_scale : float
        uncond + s * (cond - uncond) on logits, 1 or more. 1.0 is no guidance and costs one pass.
    guidance_schedule : str
        constant; or rising from near 1 to guidance_scale, 1 + (s - 1) f after the fraction r of steps, where f is r (linear),
        sin(pi r / 2) (cosine), ln(1 + r (e - 1)) (log), r^2 (square), the root of the fraction at the step's beginning (square_root), or
        (1 - cos(pi r^guidance_power)) / 2 (power_cosine); or interval, guidance_scale in guidance_interval and 1 (no guidance) outside.
    guidance_interval : tuple of two floats, optional
        Start and stop of guidance_schedule interval: guided are the steps with start < r <= stop, r = (step + 1) / number of steps
        (num_reveal_steps, or the tokens to draw of a causal generator). LlamaGen's cfg_interval k is (0, (k + 2) / N).
    guidance_power : float
        Exponent of guidance_schedule power_cosine.
    temperature : float
        Divides logits.
    top_k : int, optional
        Draw among the k most probable classes only (those that equal the k-th too); 1 is the greedy choice. None: all.
    top_p : float
        Draw among the most probable classes that hold this share, (0, 1], the one that crosses it included. 1: all.
    gumbel_temperature : float
        Weight of Gumbel noise added to the confidence, with order entropy. Without it images vary less; the paper has 0.17 (L), 0.25 (XL)
        and 0.30 (XXL), Table 7.
    gumbel_schedule : str, optional
        constant, down (to 0) or up (from 0); by default constant for bits, and down for masked classes as in MaskGIT.
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
    final_denoise_steps: int | None = None
    order: Literal["entropy", "random", "raster", "halton"] = "entropy"
    guidance_scale: float = 2.5
    guidance_schedule: Literal["constant", "linear", "cosine", "log", "square", "square_root", "power_cosine", "interval"] = "constant"
    guidance_interval: tuple[float, float] | None = None
    guidance_power: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    gumbel_temperature: float = 0.0
    gumbel_schedule: Literal["constant", "down", "up"] | None = None
    mask_schedule: Literal["cosine", "linear"] = "cosine"
    posterior: Literal["official", "exact"] = "official"
    bits: Literal["bernoulli", "threshold"] = "bernoulli"

    def __post_init__(self) -> None:
        schedules.reveal_counts(0, self.num_reveal_steps, self.mask_schedule)  # raises for the two
        schedules.gumbel_temperature_at(1.0, self.gumbel_temperature, self.gumbel_schedule or "constant")
        if self.num_denoise_steps is not None and self.num_denoise_steps < 1:
            raise ValueError(f"num_denoise_steps={self.num_denoise_steps}, but a chain has at least 1 step.")
        most = self.num_denoise_steps or math.inf
        if self.final_denoise_steps is not None and not 1 <= self.final_denoise_steps <= most:
            raise ValueError(
                f"final_denoise_steps={self.final_denoise_steps} with num_denoise_steps={self.num_denoise_steps}; chains get shorter, so "
                "give a number from 1 to num_denoise_steps."
            )
        if not 1 <= self.guidance_scale < math.inf:
            raise ValueError(f"guidance_scale={self.guidance_scale}; expected 1.0 (no guidance) or more.")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature={self.temperature}; expected a positive number.")
        if not 0 < self.guidance_power < math.inf:
            raise ValueError(f"guidance_power={self.guidance_power}; expected a positive number.")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}; give 1 (the most probable class) or more, or None to keep all.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}; expected a share in (0, 1], where 1 keeps all.")
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

    def denoise_steps_at(self, step: int, most: int) -> int:
        """Length of the transcoder's chain in the reveal step of 0-based index `step`; `most` without num_denoise_steps."""
        first = self.num_denoise_steps or most
        if self.final_denoise_steps is None:
            return first
        return round(first + (min(first, self.final_denoise_steps) - first) * step / max(1, self.num_reveal_steps - 1))

    def guidance_at(self, progress: float, step_size: float = 0.0) -> float:
        """Guidance scale of the step of length `step_size` that ends at `progress` in (0, 1]."""
        if self.guidance_schedule == "interval" and self.guidance_interval is not None:
            start, stop = self.guidance_interval
            return self.guidance_scale if start < progress <= stop else 1.0
        if self.guidance_schedule == "constant":
            return self.guidance_scale
        rise = {
            "linear": progress,
            "cosine": math.sin(math.pi / 2 * progress),
            "log": math.log(1 + progress * (math.e - 1)),
            "square": progress**2,
            "square_root": math.sqrt(max(progress - step_size, 0.0)),
            "power_cosine": (1 - math.cos(math.pi * progress**self.guidance_power)) / 2,
        }
        return 1 + (self.guidance_scale - 1) * rise[self.guidance_schedule]
