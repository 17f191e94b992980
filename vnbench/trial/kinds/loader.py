"""The loader trial: planning, decoding, padding, workers and copies to the device, stage by stage, without training."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.data import Dataset

from vnbench.batching.accounts import account_for_epoch
from vnbench.batching.epoch import plan_epoch
from vnbench.batching.plan import MicroBatch
from vnbench.batching.sizes import SizeArray
from vnbench.batching.trial_epoch import MEASURED_EPOCH, plan_config
from vnbench.images.corpus import Corpus
from vnbench.images.decoding.mask_classes import MaskClasses
from vnbench.loading.collate import Batch, device_tensors, to_device
from vnbench.loading.examples import RasterDataset
from vnbench.loading.loader import process_loader
from vnbench.loading.page_cache import cached_ratio, drop_from_page_cache
from vnbench.records.readings import LoaderStage, LoaderStageName
from vnbench.records.record import TrialRecord
from vnbench.records.spec.trial_spec import LoaderSpec
from vnbench.records.task import TrialTask
from vnbench.trial.checks.soundness import loader_warnings
from vnbench.trial.instruments.memory import keep_freed_memory, process_memory, processes_bytes
from vnbench.trial.measuring.corpus_steps import choose_examples, load_the_corpus, steps_of_epoch
from vnbench.trial.measuring.loaders import Loading
from vnbench.trial.measuring.stopping import Stopping

NUM_PLANS = 5
"""Number of epoch plans to time; each takes milliseconds."""

Open = Callable[[Sequence[MicroBatch]], Iterable[object]]
"""Returns a stage's output for each of the given micro-batches."""

Use = Callable[[Batch], None]
"""Processes a batch before the next one is requested."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stage:
    name: LoaderStageName
    open: Open
    use: Use | None = None
    num_ahead: int = 0
    """Number of batches that its workers prefetch."""
    has_payload: bool = False
    """Whether its batches come from worker processes."""


def measure_loader(task: TrialTask[LoaderSpec], record: TrialRecord) -> Iterator[TrialRecord]:
    """Yield the record after each stage, with all stages so far.

    The files are read first from the disk, then from the page cache, as in every later epoch of training if the files
    fit into memory.
    """
    spec = task.spec
    corpus = load_the_corpus(task)
    chosen = choose_examples(spec, corpus)
    epoch = [one for step in steps_of_epoch(spec, corpus, chosen, epoch=MEASURED_EPOCH) for one in step]
    record = replace(record, batching=account_for_epoch(corpus.sizes_N2[corpus.train_indices], plan_config(spec)))
    if spec.device == "cpu":
        # Workers inherit this, as in training.
        keep_freed_memory()
    loading = Loading(task, corpus, chosen)
    start_s = time.monotonic()
    with loading.naming_examples():
        for stage in _measured_stages(spec, corpus, loading, epoch):
            record = replace(
                record,
                stages=(*record.stages, stage),
                memory=process_memory(),
                measured_span_s=(start_s, time.monotonic()),
            )
            record = replace(record, warnings=loader_warnings(record))
            yield record


def _measured_stages(
    spec: LoaderSpec, corpus: Corpus, loading: Loading, epoch: Sequence[MicroBatch]
) -> Iterator[LoaderStage]:
    yield _measure_plans(spec, corpus)
    stages = list(_stages(spec, corpus, loading))
    first = next(stage for stage in stages if stage.name in ("workers", "collate"))
    yield _measure_cold(first, epoch, corpus)
    for stage in stages:
        yield _measure(stage, epoch, spec, corpus)


def _stages(spec: LoaderSpec, corpus: Corpus, loading: Loading) -> Iterator[_Stage]:
    """Yield the stages in the order that a batch passes them; each includes all stages before it."""
    device = torch.device(spec.device)
    examples = RasterDataset(corpus, classes=MaskClasses.of(spec), cache=loading.cache)
    plain = _Stage(
        name="collate" if spec.num_workers == 0 else "workers",
        open=lambda epoch: loading.epochs(epoch, pin_memory=False),
        num_ahead=loading.num_ahead,
        has_payload=loading.uses_processes,
    )
    if spec.num_workers == 0:
        yield _Stage(name="decode", open=lambda epoch: ([examples[index] for index in one.examples] for one in epoch))
    elif loading.uses_processes:
        yield replace(plain, name="empty-workers", open=lambda epoch: _empty_loader(spec, epoch))
    yield plain
    last = plain
    if device.type == "cuda":
        if spec.pin_memory == "on":
            last = replace(plain, name="pinned", open=lambda epoch: loading.epochs(epoch, pin_memory=True))
            yield last
        last = replace(last, name="h2d", use=lambda batch: _copy(batch, device))
        yield last
    yield replace(last, name="device", use=lambda batch: _convert(batch, device))


class _NoPixels(Dataset[Batch]):
    """Batches without pixels, which show the loader's cost without decoding and payload."""

    def __getitem__(self, micro_batch: MicroBatch) -> Batch:
        nothing = torch.empty((0, 0, 0), dtype=torch.uint8)
        sizes_B2 = torch.zeros((len(micro_batch.examples), 2), dtype=torch.int32)
        return Batch(images_BHW=nothing, masks_BHW=nothing.clone(), sizes_B2=sizes_B2)


def _empty_loader(spec: LoaderSpec, epoch: Sequence[MicroBatch]) -> Iterable[Batch]:
    return process_loader(
        _NoPixels(),
        epoch,
        num_workers=spec.num_workers,
        pin_memory=False,
        prefetch_factor=spec.prefetch_factor,
        timeout_s=60.0,
        seed=0,
    )


def _copy(batch: Batch, device: torch.device) -> None:
    to_device(batch, device, non_blocking=True)


def _convert(batch: Batch, device: torch.device) -> None:
    device_tensors(to_device(batch, device, non_blocking=True))


def _measure_plans(spec: LoaderSpec, corpus: Corpus) -> LoaderStage:
    """Return the time to plan epochs of all training examples; each plan counts as one wait."""
    sizes_N2 = corpus.sizes_N2[corpus.train_indices]
    config = plan_config(spec)
    log = _Log(spec, max_epochs=NUM_PLANS)
    for epoch in range(NUM_PLANS):
        start = time.perf_counter()
        plan = plan_epoch(sizes_N2, config, epoch=epoch)
        log.add_wait(time.perf_counter() - start, plan.micro_batches, sizes_N2)
        log.end_epoch()
    return log.stage("plan")


def _measure_cold(stage: _Stage, epoch: Sequence[MicroBatch], corpus: Corpus) -> LoaderStage:
    """Return a stage's times for one epoch whose files are on disk but not in the page cache."""
    files = [
        path for one in epoch for index in one.examples for path in (corpus.image_path(index), corpus.mask_path(index))
    ]
    drop_from_page_cache(files)
    ratio = cached_ratio(files)
    # cached_ratio may have made the system read ahead.
    drop_from_page_cache(files)
    log = _Log(None, max_epochs=1)
    log.run(iter(stage.open(epoch)), epoch, corpus, stage, is_new=True)
    log.end_epoch()
    return replace(log.stage(stage.name), is_cold=True, cached_ratio=ratio)


def _measure(stage: _Stage, epoch: Sequence[MicroBatch], spec: LoaderSpec, corpus: Corpus) -> LoaderStage:
    """Return a stage's times, measured epoch after epoch until they are known well enough."""
    max_epochs = spec.max_epochs
    log = _Log(spec, max_epochs=max_epochs)
    if spec.persistent_workers == "off":
        while not log.is_enough:
            log.run(iter(stage.open(epoch)), epoch, corpus, stage, is_new=True)
            log.end_epoch()
        return log.stage(stage.name)
    # Warm up until the workers have prefetched as much as they may, and add as many batches after the last measured
    # one: so neither a head start nor idle workers are measured.
    warm_up = [epoch[i % len(epoch)] for i in range(max(1, 2 * stage.num_ahead))]
    rest = [epoch[i % len(epoch)] for i in range(stage.num_ahead)]
    batches = iter(stage.open([*warm_up, *list(epoch) * max_epochs, *rest]))
    log.warm_up(batches, len(warm_up), stage)
    while not log.is_enough:
        log.run(batches, epoch, corpus, stage, is_new=False)
        log.end_epoch()
    return log.stage(stage.name)


class _Log:
    """Measurements of a stage so far."""

    def __init__(self, spec: LoaderSpec | None, *, max_epochs: int) -> None:
        """``spec`` has the noise target and the time limit; with None, exactly ``max_epochs`` are measured."""
        self._stopping = Stopping(
            noise_target=spec.noise_target if spec else None,
            max_measuring_s=spec.max_measuring_s if spec else None,
            max_epochs=max_epochs,
        )
        self._waits_s: list[float] = []
        self._padded_pixels: list[int] = []
        self._valid_pixels = 0
        self._num_examples = 0
        self._payload_bytes = 0
        self._start_up_s: float | None = None
        self._num_told = 0
        self._host_bytes: int | None = None
        self.is_enough = False

    def warm_up(self, batches: Iterator[object], count: int, stage: _Stage) -> None:
        """Take ``count`` batches that are not measured."""
        start = time.perf_counter()
        for number in range(count):
            batch = next(batches)
            if number == 0 and stage.num_ahead:
                self._start_up_s = time.perf_counter() - start
            _use(batch, stage)
        _synchronize()

    def run(
        self, batches: Iterator[object], epoch: Sequence[MicroBatch], corpus: Corpus, stage: _Stage, *, is_new: bool
    ) -> None:
        """Measure the batches of an epoch; ``is_new`` means that its workers start now."""
        for number, micro_batch in enumerate(epoch):
            start = time.perf_counter()
            batch = next(batches)
            if is_new and number == 0 and stage.num_ahead:
                self._start_up_s = time.perf_counter() - start
            _use(batch, stage)
            if number == len(epoch) - 1:
                _synchronize()
            self.add_wait(time.perf_counter() - start, [micro_batch], corpus.sizes_N2)
            if stage.has_payload and isinstance(batch, Batch):
                self._payload_bytes += sum(tensor.nbytes for tensor in batch)
        workers = [process.pid for process in multiprocessing.active_children() if process.pid is not None]
        self._host_bytes = processes_bytes([os.getpid(), *workers])

    def add_wait(self, wait_s: float, micro_batches: Iterable[MicroBatch], sizes_N2: SizeArray) -> None:
        """Record the time that some micro-batches took together."""
        examples = [index for one in micro_batches for index in one.examples]
        self._waits_s.append(wait_s)
        self._padded_pixels.append(sum(one.padded_pixels for one in micro_batches))
        self._valid_pixels += int(sizes_N2[examples].prod(axis=1).sum())
        self._num_examples += len(examples)

    def end_epoch(self) -> None:
        """Decide whether enough has been measured."""
        new = slice(self._num_told, None)
        waits_s = self._waits_s[new]
        self._stopping.add_block(waits_s, self._padded_pixels[new], wall_time_s=sum(waits_s))
        self._num_told = len(self._waits_s)
        self.is_enough = self._stopping.decide() is not None

    def stage(self, name: LoaderStageName) -> LoaderStage:
        """Return the reading of the stage."""
        stop = self._stopping.decide()
        assert stop is not None
        return LoaderStage(
            name=name,
            waits_s=tuple(self._waits_s),
            num_examples=self._num_examples,
            valid_pixels=self._valid_pixels,
            padded_pixels=sum(self._padded_pixels),
            payload_bytes=self._payload_bytes,
            start_up_s=self._start_up_s,
            host_bytes=self._host_bytes,
            stop=stop,
        )


def _use(batch: object, stage: _Stage) -> None:
    if stage.use is not None:
        assert isinstance(batch, Batch)
        stage.use(batch)


def _synchronize() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped
        torch.cuda.synchronize()
