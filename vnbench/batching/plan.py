"""Define the plan of an epoch: its settings and its batches. What a whole run takes is vnbench.analysis.planning.

Shape suffixes: N examples, M micro-batches, S optimizer steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vnbench.batching.alignment import IntArray
from vnbench.batching.sizes import MAX_SEED
from vnbench.records.spec.words import SAMPLER_NAMES, SamplerName

BUDGETED_SAMPLER: SamplerName = "pixel-budget"
"""The sampler that limits the padded pixels of micro-batches, not their number of examples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanConfig:
    """Everything that a plan depends on, except the sizes and the epoch."""

    sampler: SamplerName
    """How examples are grouped."""
    batch_size: int
    """Examples per optimizer step."""
    micro_batch_size: int
    """Most examples per forward and backward pass; divides batch_size. Has no effect with a pixel budget."""
    pixel_budget: int | None = None
    """Most padded pixels of a pass (examples x canvas); only for the sampler ``pixel-budget``, which needs it."""
    shapes: int | None = None
    """Most distinct canvases; None for no limit."""
    seed: int = 0
    """Seed of the order."""

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLER_NAMES:
            raise ValueError(f"sampler {self.sampler!r}: must be one of {', '.join(SAMPLER_NAMES)}")
        if self.batch_size < 1 or self.micro_batch_size < 1 or self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} must divide batch_size {self.batch_size}")
        if (self.pixel_budget is not None) != (self.sampler == BUDGETED_SAMPLER):
            raise ValueError(f"sampler {self.sampler!r}, pixel_budget {self.pixel_budget}: give both or neither")
        if self.shapes is not None and self.shapes < 1:
            raise ValueError(f"shapes {self.shapes}: must be at least 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise ValueError(f"seed {self.seed}: must be within 0 to {MAX_SEED}")


class MicroBatch(NamedTuple):
    """The examples of one forward and backward pass, and their canvas."""

    examples: tuple[int, ...]
    """Row of each example in the sizes."""
    canvas: tuple[int, int]
    """Height and width in pixels, both aligned."""

    @property
    def padded_pixels(self) -> int:
        """Examples x canvas pixels."""
        height, width = self.canvas
        return len(self.examples) * height * width


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BatchPlan:
    """The order of the examples in one epoch, cut into micro-batches and steps. Plans compare by their numbers."""

    order_N: IntArray
    """Row of each example in the sizes, in the order of the epoch."""
    lengths_M: IntArray
    """Number of examples in each micro-batch, consecutive in order_N."""
    canvases_M2: IntArray
    """Canvas of each micro-batch: height and width in pixels."""
    passes_S: IntArray
    """Number of micro-batches in each optimizer step, consecutive in lengths_M."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BatchPlan) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def digest(self) -> str:
        """The hash of all numbers of the plan, 12 hexadecimal digits."""
        content = hashlib.sha256()
        for values in (self.passes_S, self.lengths_M, self.canvases_M2, self.order_N):
            content.update(f"{values.shape}".encode())
            content.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
        return content.hexdigest()[:12]

    @property
    def lengths_S(self) -> IntArray:
        """The number of examples in each optimizer step."""
        return np.add.reduceat(self.lengths_M, starts(self.passes_S))

    @property
    def padded_pixels_M(self) -> IntArray:
        """The padded pixels of each micro-batch: examples x canvas."""
        padded_M: IntArray = self.lengths_M * self.canvases_M2.prod(axis=1)
        return padded_M

    @property
    def micro_batches(self) -> tuple[MicroBatch, ...]:
        """The micro-batches of all steps, in order."""
        order = self.order_N.tolist()
        ends = np.cumsum(self.lengths_M).tolist()
        canvases = self.canvases_M2.tolist()
        return tuple(
            MicroBatch(tuple(order[end - length : end]), (height, width))
            for end, length, (height, width) in zip(ends, self.lengths_M.tolist(), canvases, strict=True)
        )

    @property
    def steps(self) -> tuple[tuple[MicroBatch, ...], ...]:
        """The micro-batches of each optimizer step, in order."""
        micro_batches = self.micro_batches
        ends = np.cumsum(self.passes_S).tolist()
        return tuple(micro_batches[end - count : end] for end, count in zip(ends, self.passes_S.tolist(), strict=True))

    @classmethod
    def from_steps(cls, steps: Iterable[Sequence[MicroBatch]]) -> BatchPlan:
        """Return the plan of the given optimizer steps.

        Raises:
            ValueError: there are no steps, or a step or a micro-batch has no examples.
        """
        steps = tuple(tuple(step) for step in steps)
        micro_batches = [micro_batch for step in steps for micro_batch in step]
        if not steps or not all(steps) or not all(micro_batch.examples for micro_batch in micro_batches):
            raise ValueError("the plan has a step or a micro-batch without examples")
        return cls(
            order_N=np.array([index for examples, _ in micro_batches for index in examples], dtype=np.int64),
            lengths_M=np.array([len(examples) for examples, _ in micro_batches], dtype=np.int64),
            canvases_M2=np.array([canvas for _, canvas in micro_batches], dtype=np.int64),
            passes_S=np.array([len(step) for step in steps], dtype=np.int64),
        )


def starts(lengths: IntArray) -> IntArray:
    """Return the start of each of several consecutive runs, given their lengths."""
    begins: IntArray = np.cumsum(lengths) - lengths
    return begins
