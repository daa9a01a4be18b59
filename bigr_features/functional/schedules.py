"""Schedules and rules by name: functions of plain numbers, so that settings can be checked without loading torch."""

from __future__ import annotations

import math

NOISE_SCHEDULES = ("linear", "cosine", "sigmoid")
POSTERIORS = ("official", "exact")
MASK_SCHEDULES = ("cosine", "linear")
GUMBEL_SCHEDULES = ("constant", "down", "up")


def masked_fraction(progress: float, schedule: str = "cosine") -> float:
    """Fraction of tokens still hidden at `progress` in [0, 1] through the reveal steps; 1 at the start, 0 at the end."""
    if schedule == "cosine":
        return math.cos(math.pi / 2 * progress)
    if schedule == "linear":
        return 1.0 - progress
    raise ValueError(f"mask schedule {schedule!r} is unknown; choose one of {', '.join(MASK_SCHEDULES)}.")


def reveal_counts(num_tokens: int, num_reveal_steps: int, schedule: str = "cosine") -> list[int]:
    """Number of tokens revealed at each step of the mask schedule (MaskGIT, arXiv:2202.04200).

    The cosine is taken in float64: in float32 cos(pi/2) is slightly negative, and one token too many would be asked for.

    Parameters
    ----------
    num_tokens : int
        Hidden tokens at the start, 0 or more.
    num_reveal_steps : int
        Steps, 1 or more. May exceed num_tokens.
    schedule : "cosine" or "linear"

    Returns
    -------
    list of int, length num_reveal_steps
        Sums to num_tokens. A step may reveal 0 tokens when steps are many.

    Raises
    ------
    ValueError
        If num_reveal_steps is below 1, num_tokens is negative, or the schedule is unknown.
    """
    if num_reveal_steps < 1:
        raise ValueError(f"num_reveal_steps={num_reveal_steps}, but at least 1 step is needed to reveal tokens.")
    if num_tokens < 0:
        raise ValueError(f"num_tokens={num_tokens} is negative.")
    hidden = [math.floor(masked_fraction((step + 1) / num_reveal_steps, schedule) * num_tokens) for step in range(num_reveal_steps)]
    return [before - after for before, after in zip([num_tokens, *hidden], hidden, strict=False)]


def gumbel_temperature_at(progress: float, temperature: float, schedule: str = "constant") -> float:
    """Weight of the Gumbel noise at `progress` in (0, 1] through the reveal steps."""
    if schedule == "constant":
        return temperature
    if schedule == "down":
        return temperature * (1.0 - progress)
    if schedule == "up":
        return temperature * progress
    raise ValueError(f"gumbel schedule {schedule!r} is unknown; choose one of {', '.join(GUMBEL_SCHEDULES)}.")
