"""The corpus of a trial on image files: the examples that it measures, and the steps of an epoch of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vnbench.batching.plan import BatchPlan, MicroBatch
from vnbench.batching.subset import choose_subset
from vnbench.batching.trial_epoch import plan_measured
from vnbench.errors import CorpusError, InputError
from vnbench.images.corpus import Corpus, load_corpus
from vnbench.records.spec.trial_spec import ImagesSpec
from vnbench.records.task import TrialTask

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


def steps_of_epoch(
    spec: ImagesSpec, corpus: Corpus, chosen: NDArray[np.int64], *, epoch: int
) -> tuple[PlannedStep, ...]:
    """Return the steps of one epoch of the chosen examples, as indices into the corpus."""
    plan = plan_measured(spec, corpus.sizes_N2[corpus.train_indices], epoch=epoch)
    return on_corpus(plan, chosen)


def choose_examples(spec: ImagesSpec, corpus: Corpus) -> NDArray[np.int64]:
    """Return the training examples that a trial measures, as indices into the corpus."""
    train_sizes = corpus.sizes_N2[corpus.train_indices]
    return corpus.train_indices[choose_subset(train_sizes, subset_size=spec.subset_size)]


def on_corpus(plan: BatchPlan, chosen: NDArray[np.int64]) -> tuple[PlannedStep, ...]:
    """Return the steps of a plan of the chosen examples, as indices into the corpus."""
    return replace(plan, order_N=chosen[plan.order_N]).steps
