"""Preconditioned L-BFGS for a convex objective, with a stop rule in units of the objective.   P numbers, M pairs

The direction is -H g with H the inverse Hessian in compact form (Byrd, Nocedal and Schnabel 1994, theorem 2.2), so that an iteration costs
two products with one matrix (2 M + 1, P) and the device is waited for twice: for the objective, and for the inner products.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.linalg.lapack import dtrtrs
from torch import Tensor

PAIRS = 10  # steps that are remembered
FUZZY = 100  # times the rounding: a gap at which a refused full step is put down to rounding


class Objective(Protocol):
    """What is minimised; all vectors are (P,)."""

    rounding: float  # relative error of a value

    def evaluate(self, theta: Tensor) -> tuple[float, Tensor]:
        """Value and gradient."""

    def curvature(self, theta: Tensor, direction: Tensor) -> float:
        """direction' Hessian direction."""

    def precondition(self, gradient: Tensor) -> Tensor:
        """A guess at the inverse Hessian, up to a factor, times a vector: linear, symmetric and positive."""

    def renew(self, theta: Tensor) -> bool:
        """Whether it was time for another guess at the inverse Hessian, which is then in force."""

    def target(self, value: float) -> float:
        """How far above its minimum the objective may stop."""


class Minimum(NamedTuple):
    """Where a minimisation ended; `gap` is the estimated distance of the value from the minimum."""

    theta: Tensor
    value: float
    gap: float
    n_iter: int
    reached: bool


def minimise(objective: Objective, theta: Tensor, max_iter: int, memory: Memory, patience: int) -> Minimum:
    """Iterate until the gap is at most the target, rounding leaves nothing to gain, or iterations have run out.

    The gap is the larger of what the model of the next step promises and what the last step gained: either alone is often far too small,
    the first while few pairs are known, the second where a step was cut short.

    Parameters
    ----------
    theta : Tensor (P,)
    memory : Memory
        What is known of the Hessian from earlier steps; more is added.
    patience : int
        Iterations without progress that end it: the gap does not fall and the objective does not fall by more than rounding, or a full
        step is refused so close to the minimum that rounding explains it.
    """
    value, gradient = objective.evaluate(theta)
    natural = memory.rebase(objective.precondition, gradient)
    gained, least, lowest, idle = math.inf, math.inf, value, 0
    for iteration in range(max_iter + 1):
        if objective.renew(theta):
            natural = memory.rebase(objective.precondition, gradient)
        direction, slope = memory.direction() if memory.slots else _first_direction(objective, theta, natural, memory)
        if not slope < 0 and memory.slots:
            memory.slots.clear()
            continue
        promised = max(-0.5 * slope, 0.0)
        gap = max(promised, gained) if iteration else promised
        progress = promised < least or value < lowest * (1 - objective.rounding)
        least, lowest, idle = min(promised, least), min(value, lowest), 0 if progress else idle + 1
        if (iteration and gap <= objective.target(value)) or not slope < 0 or iteration == max_iter or idle >= patience:
            break
        found = _line_search(objective, theta, value, gradient, direction, slope)
        if found is None:
            if not memory.slots:
                break
            memory.slots.clear()
            continue
        step, theta, value, new_gradient = found
        idle += step < 1 and promised < FUZZY * objective.rounding * value
        new_natural = objective.precondition(new_gradient)
        new_slope = memory.add(step * direction, new_gradient - gradient, new_natural - natural, new_gradient, new_natural, step * slope)
        gained = -0.5 * (step * slope + new_slope)  # by the slopes at both ends: differences of values drown in rounding first
        gradient, natural = new_gradient, new_natural
    return Minimum(theta, value, gap, iteration, gap <= objective.target(value))


def _first_direction(objective: Objective, theta: Tensor, natural: Tensor, memory: Memory) -> tuple[Tensor, float]:
    """Down the preconditioned gradient, to the minimum of the parabola."""
    curvature = objective.curvature(theta, natural)
    slope = float(memory.slopes[-1])
    scale = slope / curvature if curvature > 0 else 1.0
    return natural * -scale, -scale * slope


class Memory:
    """Steps s, changes y of the gradient and H0 y, beside H0 g, in slots used in turn; inner products on the host, the oldest first."""

    def __init__(self, theta: Tensor):
        self.rows = theta.new_zeros(2 * PAIRS + 1, len(theta))  # s, H0 y, H0 g
        self.changes = theta.new_zeros(PAIRS, len(theta))
        self.precision = np.float64 if theta.dtype == torch.float64 else np.float32
        self.slots: list[int] = []  # in use, the oldest first
        self.next = 0
        self.step_change = np.zeros((PAIRS, PAIRS))  # s_i y_j, right for j not older than i
        self.change_change = np.zeros((PAIRS, PAIRS))  # y_i H0 y_j

    def to(self, dtype: torch.dtype) -> Memory:
        """Itself, its vectors in another precision."""
        self.rows, self.changes = self.rows.to(dtype), self.changes.to(dtype)
        self.precision = np.float64 if dtype == torch.float64 else np.float32
        return self

    def look(self, gradient: Tensor, natural: Tensor, change: Tensor | None = None) -> np.ndarray:
        """Inner products of s, H0 y and H0 g with the gradient, which are kept, and with a change (2 M + 1,)."""
        self.rows[-1] = natural
        vectors = torch.stack([gradient, gradient if change is None else change])
        slopes, products = (vectors @ self.rows.T).cpu().numpy()
        self.slopes = slopes.astype(np.float64)
        return products

    def add(self, step: Tensor, change: Tensor, natural_change: Tensor, gradient: Tensor, natural: Tensor, slope: float) -> float:
        """Remember a step from a point where its slope was the given one, and return its slope where it ended."""
        slot, self.next = self.next, (self.next + 1) % PAIRS
        self.rows[slot], self.rows[PAIRS + slot], self.changes[slot] = step, natural_change, change
        products = self.look(gradient, natural, change)
        if slot in self.slots:
            self._forget(self.slots.index(slot))
        if products[slot] > 1e-8 * abs(slope) and products[PAIRS + slot] > 0:  # not rounding alone
            count = len(self.slots)
            self.slots.append(slot)
            self.step_change[: count + 1, count] = products[self.slots]
            self.change_change[: count + 1, count] = self.change_change[count, : count + 1] = products[PAIRS:][self.slots]
        return float(self.slopes[slot])

    def _forget(self, place: int) -> None:
        """Drop a pair by its place in age."""
        del self.slots[place]
        for products in (self.step_change, self.change_change):
            products[place:-1] = products[place + 1 :].copy()
            products[:, place:-1] = products[:, place + 1 :].copy()

    def rebase(self, precondition, gradient: Tensor) -> Tensor:
        """The same steps under another H0; returns H0 g."""
        natural = precondition(gradient)
        for place, slot in enumerate(self.slots):
            self.rows[PAIRS + slot] = precondition(self.changes[slot])
            products = self.changes @ self.rows[PAIRS + slot]
            self.change_change[: len(self.slots), place] = products.cpu().numpy()[self.slots]
        self.look(gradient, natural)
        return natural

    def direction(self) -> tuple[Tensor, float]:
        """-H g and its slope, H0 scaled by the newest pair."""
        slots, count = np.array(self.slots), len(self.slots)
        step_change, change_change = self.step_change[:count, :count], self.change_change[:count, :count]
        scale = step_change[-1, -1] / change_change[-1, -1]
        inner = dtrtrs(step_change, self.slopes[slots])[0]  # its upper triangle counts
        outer = step_change.diagonal() * inner - scale * (self.slopes[PAIRS + slots] - change_change @ inner)
        weights = np.zeros(2 * PAIRS + 1)
        weights[slots] = -dtrtrs(step_change, outer, trans=1)[0]
        weights[PAIRS + slots] = scale * inner
        weights[-1] = -scale
        return torch.from_numpy(weights.astype(self.precision)).to(self.rows.device) @ self.rows, float(weights @ self.slopes)


def _line_search(objective: Objective, theta: Tensor, value: float, gradient: Tensor, direction: Tensor, slope: float):
    """(step, theta, value, gradient) with sufficient decrease: the full step nearly always, else from the parabola through what is known.

    Where the decrease drowns in rounding, a smaller slope stands for it (approximate Wolfe, Hager and Zhang 2005).
    """
    step = 1.0
    for _ in range(12):
        candidate = torch.add(theta, direction, alpha=step)
        new_value, new_gradient = objective.evaluate(candidate)
        if math.isfinite(new_value):
            if new_value <= value + 1e-4 * step * slope:
                return step, candidate, new_value, new_gradient
            if new_value <= value * (1 + objective.rounding) and abs(float(new_gradient @ direction)) <= -0.9 * slope:
                return step, candidate, new_value, new_gradient
        curvature = (new_value - value - step * slope) / step**2 if math.isfinite(new_value) else math.inf
        step = min(max(-slope / (2 * curvature), 0.1 * step), 0.5 * step) if curvature > 0 else 0.5 * step
    return None
