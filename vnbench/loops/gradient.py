"""The gradient of one parameter, followed by a few of its entries: which passes are in it, and with what weight."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MAX_ENTRIES = 256
"""Entries that are followed of a gradient, evenly spread over it; in a small one all of them."""


class Gradient:
    """What is known of the gradient of a parameter.

    It is looked at where a hook fires. What happened to it in between shows in its entries: nothing, or it was cleared,
    or scaled.
    """

    __slots__ = (
        "cleared",
        "energies",
        "known",
        "name",
        "parameter",
        "since_clipping",
        "since_pass",
        "version",
        "weights",
    )

    def __init__(self, parameter: nn.Parameter, name: str) -> None:
        """Take a parameter and its name for people."""
        self.parameter = parameter
        self.name = name
        self.known = self._entries()
        """Its entries when it was last looked at; None where there is no gradient."""
        self.weights: dict[int, float] = {}
        """Weight of each pass that is in it."""
        self.energies: dict[int, float] = {}
        """Squared norm of the entries that each pass added, those that were cleared since included."""
        self.version = parameter._version
        """Version of the parameter's values after the last pass or step."""
        self.since_pass = 1.0
        """Factor by which it was scaled since the last pass."""
        self.since_clipping: float | None = None
        """Factor by which it was scaled since it was clipped; None if it was not."""

    def look(self) -> tuple[int, ...]:
        """Look at its entries, and return the passes that were cleared from it since it was last looked at."""
        now, before = self._entries(), self.known
        self.known = now
        if before is None or not bool(before.any()) or (now is not None and torch.equal(now, before)):
            return ()
        if now is None or not bool(now.any()):
            lost = tuple(self.weights)
            self._begin()
            return lost
        factor = _factor(now, before)
        self.weights = {number: factor * weight for number, weight in self.weights.items()}
        self.since_pass *= factor
        if self.since_clipping is not None:
            self.since_clipping *= factor
        return ()

    def take(self, number: int) -> bool:
        """Count what a pass added since it was last looked at, and return whether that is anything."""
        before, self.known = self.known, self._entries()
        self.version = self.parameter._version
        if self.known is None:
            return False  # a hook of the user's own stepped on it and cleared it
        energy = float((self.known if before is None else self.known - before).square().sum())
        if energy == 0:
            return False  # nobody can tell whether it is cleared
        self.weights[number] = 1.0
        self.energies[number] = self.energies.get(number, 0.0) + energy
        self.since_pass, self.since_clipping = 1.0, None
        return True

    @property
    def is_nonzero(self) -> bool:
        """Whether it has an entry other than zero."""
        return self.known is not None and bool(self.known.any())

    @property
    def is_finite(self) -> bool:
        """Whether all of it is finite, not just the entries that are followed."""
        return self.parameter.grad is None or bool(torch.isfinite(self.dense()).all())

    @property
    def is_changed_by_hand(self) -> bool:
        """Whether the parameter changed since the last pass or step."""
        return self.parameter._version != self.version

    def dense(self) -> Tensor:
        """Return the gradient itself, which there must be."""
        assert self.parameter.grad is not None
        return _dense(self.parameter.grad.detach())

    def _begin(self) -> None:
        self.weights = {}
        self.since_pass, self.since_clipping = 1.0, None

    def _entries(self) -> Tensor | None:
        if self.parameter.grad is None:
            return None
        flat = self.dense().reshape(-1)
        return flat[:: math.ceil(flat.numel() / MAX_ENTRIES) or 1].to("cpu", torch.float64, copy=True)


def _dense(gradient: Tensor) -> Tensor:
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def _factor(now: Tensor, before: Tensor) -> float:
    """Return by what a gradient was scaled: the least squares factor, 1 where it is no number."""
    factor = float(now @ before / (before @ before))
    return factor if math.isfinite(factor) else 1.0
