"""A batch of images that are drawn rather than read, for trials without files."""

from __future__ import annotations

from vnbench.images.drawing.raster import draw_example
from vnbench.loading.collate import Batch, collate
from vnbench.records.spec.trial_spec import TrialSpec


def drawn_batch(spec: TrialSpec, *, height: int, width: int, num_examples: int) -> Batch:
    """Return a batch of ``num_examples`` examples of one size, drawn from the spec's seed."""
    example = draw_example(seed=spec.seed, index=0, height=height, width=width, task=spec.task)
    return collate([example] * num_examples)
