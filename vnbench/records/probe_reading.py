"""What a probe reads of a machine, and what a sweep chooses by it: parts of the probe's record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vnbench.records.spec.words import MemoryBy, Precision
from vnbench.records.values.strict import Count, Pixels, SignedSeconds


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeStep:
    """One training step of a probe."""

    precision: Precision
    """Its arithmetic."""
    padded_pixels: Pixels
    """Pixels of its canvas."""
    seconds: SignedSeconds
    """What it took."""
    is_first: bool
    """Whether it was the first of its precision on this canvas, which makes kernels and takes memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeReading:
    """How fast a machine computes, from a few seconds of it."""

    convolution_s: Mapping[Precision, SignedSeconds]
    """Seconds of one 3 x 3 convolution, forward and backward, by precision."""
    steps: tuple[ProbeStep, ...]
    """Training steps in the order in which they ran."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepChoices:
    """What a sweep chose for the machine before its first trial, and keeps when it is continued."""

    precision: tuple[Precision, ...]
    """Values of the precision axis, the centre's first."""
    subset_size: Count
    """Training examples of one measured epoch."""
    max_epochs: Count
    """Measured epochs of a training trial, at most."""
    replicates: Count
    """Processes of each configuration."""
    reference_runs: Count | None
    """Processes of the centre; None where that was not chosen."""
    memory_by: MemoryBy
    """How the memory of worst-case steps is told."""
