"""Define the parts of a probe's record: the speed of a machine, and the choices of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vnbench.records.spec.words import MemoryBy, Precision
from vnbench.records.values.strict import Count, Pixels, SignedSeconds


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeStep:
    """One training step of a probe."""

    precision: Precision
    """Arithmetic of the step."""
    padded_pixels: Pixels
    """Pixels of its canvas."""
    seconds: SignedSeconds
    """Its duration in seconds."""
    is_first: bool
    """Whether it was the first step of its precision on this canvas, which also creates kernels and takes memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeReading:
    """The speed of a machine, from a few seconds of measuring."""

    convolution_s: Mapping[Precision, SignedSeconds]
    """Seconds of one 3 x 3 convolution, forward and backward, by precision."""
    steps: tuple[ProbeStep, ...]
    """Training steps in the order in which they ran."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepChoices:
    """The choices of a sweep for its machine, made before the first trial and kept when the sweep continues."""

    precision: tuple[Precision, ...]
    """Values of the precision axis; the first is that of the centre."""
    subset_size: Count
    """Training examples of one measured epoch."""
    max_epochs: Count
    """Most measured epochs of a training trial."""
    replicates: Count
    """Processes of each configuration."""
    reference_runs: Count | None
    """Processes of the centre; None if not chosen."""
    memory_by: MemoryBy
    """How the memory of worst-case steps is measured."""
