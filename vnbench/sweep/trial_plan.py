"""The work of a trial on image files: its corpus, the examples chosen from it, and the steps of an epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vnbench.batching.alignment import align
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import BatchPlan, MicroBatch, PlanConfig
from vnbench.batching.shapes import choose_grid
from vnbench.batching.sizes import SizeArray
from vnbench.batching.subset import choose_subset
from vnbench.errors import CorpusError, InputError
from vnbench.images.corpus import Corpus, load_corpus
from vnbench.records.spec.trial_spec import ImagesSpec
from vnbench.records.task import TrialTask

MEASURED_EPOCH = 1
"""Epoch of the subset that is measured; warm-up takes its steps from epoch 0."""

PlannedStep = tuple[MicroBatch, ...]
"""The passes of an optimizer step, with examples as indices into the corpus."""


def load_the_corpus(task: TrialTask[ImagesSpec]) -> Corpus:
    """Return the corpus that a task was planned with.

    Raises:
        CorpusError: the directory now holds another corpus, or none that can be read.
    """
    assert task.corpus_directory is not None
    try:
        corpus = load_corpus(task.corpus_directory, is_partial=True)
    except InputError as error:
        raise CorpusError(str(error)) from error
    if corpus.corpus_id != task.spec.corpus_id:
        raise CorpusError(
            f"{task.corpus_directory}: the corpus changed since the sweep was planned "
            f"({task.spec.corpus_id} then, {corpus.corpus_id} now); start the sweep again"
        )
    return corpus.in_format(task.spec.image_format)


def plan_config(spec: ImagesSpec) -> PlanConfig:
    """Return the settings for planning a trial's batches."""
    return PlanConfig(
        sampler=spec.sampler,
        batch_size=spec.batch_size,
        micro_batch_size=spec.micro_batch_size,
        pixel_budget=spec.pixel_budget,
        shapes=spec.shapes,
        seed=spec.seed,
    )


def plan_measured(spec: ImagesSpec, train_sizes_N2: SizeArray, *, epoch: int = MEASURED_EPOCH) -> BatchPlan:
    """Return the plan of an epoch of the measured training examples, as indices into those examples.

    Canvases are chosen for all training examples, although only some are measured.
    """
    grid = None if spec.shapes is None else choose_grid(align(train_sizes_N2), count=spec.shapes)
    measured_N2 = train_sizes_N2[choose_subset(train_sizes_N2, subset_size=spec.subset_size)]
    return plan_epoch(measured_N2, plan_config(spec), epoch=epoch, grid=grid)


def steps_of_epoch(
    spec: ImagesSpec, corpus: Corpus, chosen: NDArray[np.int64], *, epoch: int
) -> tuple[PlannedStep, ...]:
    """Return the steps of one epoch of the chosen examples, as indices into the corpus."""
    plan = plan_measured(spec, corpus.sizes_N2[corpus.train_indices], epoch=epoch)
    return replace(plan, order_N=chosen[plan.order_N]).steps


def choose_examples(spec: ImagesSpec, corpus: Corpus) -> NDArray[np.int64]:
    """Return the training examples that a trial measures, as indices into the corpus."""
    train_sizes = corpus.sizes_N2[corpus.train_indices]
    return corpus.train_indices[choose_subset(train_sizes, subset_size=spec.subset_size)]
