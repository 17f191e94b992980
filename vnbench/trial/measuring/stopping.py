"""The rule for when to stop measuring: a noise target with limits, checked after each block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vnbench.analysis.statistics.estimate import Estimate
from vnbench.analysis.statistics.means import correlated_ratio_of_sums, repeated_ratio_of_sums
from vnbench.records.readings import Stop, StopRule


@dataclass(kw_only=True, slots=True)
class Stopping:
    """Collects the measured steps of one canvas or trial and decides when they are enough.

    ``noise_target`` applies to the seconds per padded pixel.
    """

    noise_target: float | None
    """Relative half-width of the 95 % interval at which measuring ends; None leaves only the limits."""
    max_measuring_s: float | None
    """Measured seconds after which no further block starts; None for no limit."""
    max_epochs: int | None = None
    """Maximum number of blocks, each an epoch; None for no limit."""
    max_steps: int | None = None
    """Maximum number of steps; None for no limit."""
    is_by_canvas: bool = False
    """Whether only steps with equal padded pixels count as repetitions: the canvases are fixed in advance, so different
    costs per pixel are not noise. There is no estimate until a canvas was repeated."""
    _times_s: list[float] = field(default_factory=list)
    _padded_pixels: list[float] = field(default_factory=list)
    _num_blocks: int = 0
    _num_steps: int = 0
    _measuring_s: float = 0.0

    def add_block(self, times_s: Sequence[float], padded_pixels: Sequence[int], *, wall_time_s: float) -> None:
        """Add the steps of a block: seconds and padded pixels of each, and the block's wall-clock time.

        Steps whose time is not positive, because the clock stepped backwards, count as steps but not for the estimate.
        """
        timed = [(seconds, pixels) for seconds, pixels in zip(times_s, padded_pixels, strict=True) if seconds > 0]
        self._times_s += [seconds for seconds, _ in timed]
        self._padded_pixels += [float(pixels) for _, pixels in timed]
        self._num_blocks += 1
        self._num_steps += len(times_s)
        self._measuring_s += wall_time_s

    def decide(self) -> Stop | None:
        """Return why measuring ends now, or None if another block is needed."""
        estimate = self._estimate() if self._times_s else None
        half_width = estimate.relative_half_width if estimate else None
        rule: StopRule | None = None
        if self.noise_target is not None and half_width is not None and half_width <= self.noise_target:
            rule = "noise-target"
        elif self.max_epochs is not None and self._num_blocks >= self.max_epochs:
            rule = "max-epochs"
        elif self.max_steps is not None and self._num_steps >= self.max_steps:
            rule = "max-steps"
        elif self.max_measuring_s is not None and self._measuring_s >= self.max_measuring_s:
            rule = "max-measuring-time"
        if rule is None:
            return None
        return Stop(
            rule=rule,
            noise_target=self.noise_target,
            relative_half_width=half_width,
            num_steps=self._num_steps,
            num_observations=round(estimate.dof) + 1 if estimate else None,
            measuring_s=self._measuring_s,
        )

    def _estimate(self) -> Estimate:
        if self.is_by_canvas:
            return repeated_ratio_of_sums(self._times_s, self._padded_pixels, kinds=self._padded_pixels)
        return correlated_ratio_of_sums(self._times_s, self._padded_pixels)
