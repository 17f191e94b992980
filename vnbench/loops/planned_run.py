"""A training run by a plan, as a process of its own sets it up: the step, the sampler and the loader of a task."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vnbench.batching.resume import EpochSampler
from vnbench.batching.trial_epoch import plan_config
from vnbench.loading.collate import Batch
from vnbench.records.spec.trial_spec import ImagesSpec
from vnbench.records.task import TrialTask
from vnbench.trial.instruments.timing import make_timer
from vnbench.trial.measuring.corpus_steps import PlannedStep, choose_examples, load_the_corpus, on_corpus
from vnbench.trial.measuring.loaders import Loading
from vnbench.trial.step.optimizer_step import build_step
from vnbench.trial.step.switches import set_switches


class PlannedRun:
    """The network and the batches of a training task, at the start of its first epoch."""

    def __init__(self, task: TrialTask[ImagesSpec]) -> None:
        """Set the switches of this process, and draw the weights.

        Raises:
            CorpusError: the images changed, or cannot be read.
        """
        spec = task.spec
        set_switches(spec)
        device = torch.device(spec.device)
        corpus = load_the_corpus(task)
        self._chosen = choose_examples(spec, corpus)
        self._loading = Loading(task, corpus, self._chosen)
        self._timer = make_timer(device)
        self.step = build_step(spec, device=device)
        self.sampler = EpochSampler(corpus.sizes_N2[self._chosen], plan_config(spec))

    def remaining(self) -> tuple[tuple[PlannedStep, ...], Iterator[Batch]]:
        """Return the remaining steps of the sampler's epoch, and their batches."""
        steps = on_corpus(self.sampler.plan, self._chosen)[self.sampler.first_step :]
        passes = [one for planned in steps for one in planned]
        return steps, iter(self._loading.loader(passes, pin_memory=self.step.device.type != "cpu"))

    def train(self, planned: PlannedStep, batches: Iterator[Batch]) -> float:
        """Take one optimizer step, wait for the device, and return the loss."""
        num_examples = sum(len(one.examples) for one in planned)
        return float(self.step.run(batches, num_examples=num_examples, timer=self._timer).loss)
