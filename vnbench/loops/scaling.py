"""Follow the clipping and unscaling of gradients, for which torch has no hooks: its functions are wrapped meanwhile."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad

from vnbench.loops.gradient import Gradient

FollowedOf = Callable[[Iterable[Tensor]], list[Gradient]]
"""Returns what is known of the gradients of parameters, looked at now."""

SCALED = 2.0
"""Factor between clipping and step from which gradients count as unscaled in between; scales are far larger."""

SAME_NORM = 1e-3
"""Relative spread of norms that are all at the limit of clipping, and least spread of the factors that lead there."""

CLIPPING = ((clip_grad, "_clip_grads_with_norm_"), (clip_grad, "clip_grad_value_"))
"""Functions that clip, in the module where torch's others find them by name."""

ALIASES = ((nn.utils, "clip_grads_with_norm_"), (nn.utils, "clip_grad_value_"))
"""The same under the names by which loops call them."""


@dataclass(frozen=True, slots=True)
class _Unscaling:
    """Gradients that changed between the last pass and their unscaling."""

    factor: float
    """By what they were scaled."""
    norm: float
    """Their norm before they were unscaled."""
    pass_number: int
    """The last pass before."""


class Scaling:
    """Tells gradients that are clipped, and finds those that are unscaled afterwards."""

    def __init__(self, followed_of: FollowedOf, *, clips: bool = True) -> None:
        """Take what looks at gradients; if it does not clip, a loop runs as if it had no limit."""
        self._followed_of = followed_of
        self._clips = clips
        self._unscalings: list[_Unscaling] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Return a context in which clipping and unscaling are followed."""
        wrapped = [
            mock.patch.object(place, name, self._clipping(getattr(place, name))) for place, name in CLIPPING + ALIASES
        ]
        wrapped.append(mock.patch.object(GradScaler, "unscale_", self._unscaling(GradScaler.unscale_)))
        for one in wrapped:
            one.start()
        try:
            yield
        finally:
            for one in reversed(wrapped):
                one.stop()

    def clipped_before_unscaling(self) -> tuple[int, ...]:
        """Return the last passes before steps whose gradients were clipped by other means than torch's, and unscaled.

        Their norms are then at one limit, whatever they were before.
        """
        if len(self._unscalings) < 2:
            return ()
        norms = [one.norm for one in self._unscalings]
        factors = [one.factor for one in self._unscalings]
        is_limit = max(norms) <= min(norms) * (1 + SAME_NORM) and max(factors) > min(factors) * (1 + SAME_NORM)
        return tuple(one.pass_number for one in self._unscalings) if is_limit else ()

    def _clipping(self, clip: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(clip)
        def followed(parameters: Tensor | Iterable[Tensor], *arguments: Any, **named: Any) -> Any:
            chosen = [parameters] if isinstance(parameters, Tensor) else list(parameters)
            gradients = self._followed_of(chosen)
            if not self._clips:
                return None
            result = clip(chosen, *arguments, **named)
            for one in gradients:
                one.look()
                one.since_clipping = 1.0
            return result

        return followed

    def _unscaling(self, unscale: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(unscale)
        def followed(scaler: GradScaler, optimizer: torch.optim.Optimizer) -> None:
            if scaler.is_enabled():
                self._note(self._followed_of(one for group in optimizer.param_groups for one in group["params"]))
            unscale(scaler, optimizer)

        return followed

    def _note(self, gradients: Sequence[Gradient]) -> None:
        known = [one for one in gradients if one.weights and one.since_clipping is None and one.is_nonzero]
        if not known or not all(one.is_finite for one in known):
            return
        factor = statistics.median(abs(one.since_pass) for one in known)
        norm = math.hypot(*(float(torch.linalg.vector_norm(one.dense())) for one in known))
        if factor < 1 - SAME_NORM:
            self._unscalings.append(_Unscaling(factor, norm, max(max(one.weights) for one in known)))


def is_scaled_since_clipping(gradients: Iterable[Gradient], *, is_still_scaled: bool) -> bool:
    """Return whether gradients were scaled after they were clipped, or will be by the optimizer itself."""
    factors = [one.since_clipping for one in gradients if one.weights and one.since_clipping is not None]
    return any(is_still_scaled or not 1 / SCALED < abs(factor) < SCALED for factor in factors)
